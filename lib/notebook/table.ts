/**
 * Tables of names and numbers.
 *
 * @module
 */
import { DISPLAY, escapeHtml, type MediaBundle } from "./media_bundle.ts";

/** What stands in a table's cell; a number is shown with 4 digits. */
export type TableCell = string | number | boolean | undefined;

/** A table. Its rows may differ in what they hold: columns are those of all rows, in the order they first appear. */
export class Table {
  /** The rows, by the names of columns. */
  readonly rows: readonly Readonly<Record<string, TableCell>>[];
  /** What stands above. */
  readonly caption: string | undefined;

  /**
   * Makes a table of rows.
   *
   * @param rows The rows, by the names of columns.
   * @param caption What stands above.
   */
  constructor(rows: readonly Readonly<Record<string, TableCell>>[], caption?: string) {
    this.rows = rows;
    this.caption = caption;
  }

  /** The names of the columns. */
  get columns(): readonly string[] {
    return [...new Set(this.rows.flatMap((row) => Object.keys(row)))];
  }

  /** The table in words, columns under each other. */
  toString(): string {
    const { columns } = this;
    const cells = [columns, ...this.rows.map((row) => columns.map((name) => cellText(row[name])))];
    const widths = columns.map((_, at) => Math.max(...cells.map((row) => (row[at] ?? "").length)));
    const lines = cells.map((row, index) =>
      row.map((text, at) => {
        const right = index > 0 && typeof this.rows[index - 1]?.[columns[at] ?? ""] === "number";
        return right ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0);
      }).join("  ").trimEnd()
    );
    return [...this.caption === undefined ? [] : [this.caption], ...lines].join("\n");
  }

  /** Shows the table in a notebook. */
  [DISPLAY](): MediaBundle {
    const { columns } = this;
    const head = columns.map((name) => `<th>${escapeHtml(name)}</th>`).join("");
    const body = this.rows.map((row) =>
      `<tr>${
        columns.map((name) => {
          const align = typeof row[name] === "number" ? "right" : "left";
          return `<td style="text-align:${align}">${escapeHtml(cellText(row[name]))}</td>`;
        }).join("")
      }</tr>`
    );
    // Not a <caption>, which would be broken to the width of a narrow table.
    const caption = this.caption === undefined ? "" : `<div><b>${escapeHtml(this.caption)}</b></div>`;
    return {
      "text/plain": this.toString(),
      "text/html": `${caption}<table><thead><tr>${head}</tr></thead><tbody>${body.join("")}</tbody></table>`,
    };
  }
}

function cellText(cell: TableCell): string {
  if (cell === undefined) return "";
  if (typeof cell !== "number" || Number.isInteger(cell)) return String(cell);
  return String(Number(cell.toPrecision(4)));
}
