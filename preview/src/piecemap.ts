/** A picture of which pieces are there: a square per piece, or per group of pieces where there are many. */

/** What the map is told: the first piece is the highest bit of the first byte. */
export interface Pieces {
  readonly pieces: number;
  readonly verified: number;
  readonly bitmap: Uint8Array;
}

/** How squares are laid out in a box. */
export interface Grid {
  readonly columns: number;
  readonly rows: number;
  /** Side of a square with the gap behind it, in CSS pixels. */
  readonly side: number;
  /** Pieces in a square. */
  readonly group: number;
}

const largest = 18; // px; fewer, larger squares look like a mistake
const smallest = 6; // px; below, a square is no longer seen

/** The largest squares with which all pieces fit; groups of pieces where even the smallest do not. */
export function layout(pieces: number, width: number, height: number): Grid {
  for (let side = largest; ; side--) {
    const columns = Math.max(1, Math.floor(width / side));
    const room = columns * Math.max(1, Math.floor(height / side));
    if (pieces > room && side > smallest) continue;
    const group = Math.max(1, Math.ceil(pieces / room));
    return { columns, rows: Math.ceil(Math.ceil(pieces / group) / columns), side, group };
  }
}

/** How many of the square's pieces are there, from 0 to 1. */
export function filled(map: Pieces, square: number, group: number): number {
  const end = Math.min(map.pieces, (square + 1) * group);
  let have = 0;
  for (let piece = square * group; piece < end; piece++) {
    if (((map.bitmap[piece >> 3] ?? 0) & (0x80 >> (piece & 7))) !== 0) have++;
  }
  return have / Math.max(1, end - square * group);
}

/** Draws the map on a canvas, again when the canvas or the colour scheme changes. */
export class PieceMap {
  readonly #canvas: HTMLCanvasElement;
  readonly #maxHeight = 110; // px; a band, not a wall
  #map: Pieces = { pieces: 0, verified: 0, bitmap: new Uint8Array() };

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  show(map: Pieces): void {
    this.#map = map;
    this.#canvas.hidden = map.pieces === 0;
    this.#draw();
  }

  #draw(): void {
    const width = this.#canvas.clientWidth;
    const paint = this.#canvas.getContext("2d");
    if (width === 0 || this.#map.pieces === 0 || paint === null) return;
    const grid = layout(this.#map.pieces, width, this.#maxHeight);
    const height = grid.rows * grid.side;
    const scale = devicePixelRatio;
    this.#canvas.style.height = `${height}px`;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    paint.scale(scale, scale);

    const style = getComputedStyle(this.#canvas);
    const missing = style.getPropertyValue("--missing");
    const have = style.getPropertyValue("--accent");
    const size = grid.side - 2;
    for (let square = 0; square * grid.group < this.#map.pieces; square++) {
      const x = (square % grid.columns) * grid.side;
      const y = Math.floor(square / grid.columns) * grid.side;
      paint.globalAlpha = 1;
      paint.fillStyle = missing;
      paint.fillRect(x, y, size, size);
      paint.globalAlpha = filled(this.#map, square, grid.group);
      paint.fillStyle = have;
      paint.fillRect(x, y, size, size);
    }
    this.#canvas.setAttribute("aria-label", `${this.#map.verified} of ${this.#map.pieces} pieces received`);
  }
}
