import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { checkWritable, parentFolder, slug, unusedPath, withoutExtension } from "../../lib/cli/output_path.ts";
import { checkVideoPath } from "../../lib/video.ts";

Deno.test("slug() makes a file name of a prompt", () => {
  const names = [
    ["a butterfly", "a-butterfly"],
    ["  A Butterfly!! (blue) ", "a-butterfly-blue"],
    ["Café au lait", "cafe-au-lait"],
    ["../../etc/passwd", "etc-passwd"],
    ["蝶", "蝶"],
    ["!!!", "video"],
    ["😀", "video"],
    ["x".repeat(100), "x".repeat(30)],
    [
      "one two three four five six seven eight nine ten eleven twelve thirteen",
      "one-two-three-four-five-six-seven-eight-nine-ten-eleven",
    ],
  ];
  for (const [prompt = "", name] of names) assertEquals(slug(prompt), name);
});

Deno.test("paths are taken apart", () => {
  assertEquals(
    ["a.gif", "x/a.gif", "/a.gif", "x/y/", "/x/"].map(parentFolder),
    [".", "x", "/", "x", "/"],
  );
  assertEquals(
    ["a.gif", "x.y/a", ".hidden", "x/.gif", "frames/"].map(withoutExtension),
    [
      "a",
      "x.y/a",
      ".hidden",
      "x/.gif",
      "frames",
    ],
  );
});

Deno.test("checkVideoPath() accepts what can be written, and names it otherwise", () => {
  for (const path of ["a.gif", "A.GIF", "x/a.png", "a.y4m", "frames/"]) {
    checkVideoPath(path);
  }
  for (
    const path of [
      "a",
      "a.avi",
      "a.webm",
      "gif",
      "a.gif.txt",
      "x.gif/a",
      "/",
      "",
    ]
  ) {
    const error = assertThrows(
      () => checkVideoPath(path),
      KinoraError,
      "or with / for a folder of PNG",
    );
    assertEquals(error.code, "refused");
  }
});

Deno.test("checkWritable() refuses what cannot be written, and leaves nothing", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/file`, "");
    await Deno.mkdir(`${folder}/sub`);
    for (const path of ["new.gif", "file", "sub/", "new/"]) {
      await checkWritable(`${folder}/${path}`);
    }
    const refused: [string, string][] = [
      ["none/a.gif", "does not exist"],
      ["file/a.gif", "is not a folder"],
      ["sub", "it is a folder"],
      ["file/", "it is a file"],
    ];
    for (const [path, message] of refused) {
      const error = await assertRejects(
        () => checkWritable(`${folder}/${path}`),
        KinoraError,
        message,
      );
      assertEquals(error.code, "refused");
    }
    // Where nobody may make files, not even root.
    await assertRejects(
      () => checkWritable("/proc/self/a.gif"),
      KinoraError,
      "is not writable",
    );
    assertEquals((await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort(), [
      "file",
      "sub",
    ]);
    assertEquals(await unusedPath(`${folder}/free`), `${folder}/free`);
    assertEquals(await unusedPath(`${folder}/sub`), `${folder}/sub-2`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
