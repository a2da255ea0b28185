import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { deviceReport, driverVersion } from "../../lib/cli/graphics_card.ts";

const CLOSED =
  "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:12:31 UTC 2025\nGCC version:\n";
const OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.51  Release Build  (root@host)\n";

Deno.test("the driver's version is read from either kind of module", () => {
  assertEquals(driverVersion(CLOSED), "580.65.06");
  assertEquals(driverVersion(OPEN), "575.51");
  assertEquals(driverVersion("something else 1.2.3\n"), null);
});

Deno.test("the report says what was found, what was chosen and why", async () => {
  const found = await deviceReport(() => Promise.resolve(CLOSED));
  assertEquals([found.chosen, found.nvidiaDriver], ["cpu", "580.65.06"]);
  assertStringIncludes(found.reason, "580.65.06");
  const none = await deviceReport(() => Promise.reject(new Deno.errors.NotFound()));
  assertEquals([none.chosen, none.nvidiaDriver], ["cpu", null]);
  assertStringIncludes(none.reason, "no NVIDIA driver");
  const hidden = await deviceReport(() => Promise.reject(new Deno.errors.NotCapable()));
  assertStringIncludes(hidden.reason, "may not be looked for");
  await assertRejects(() => deviceReport(() => Promise.reject(new TypeError("other"))), TypeError);
});
