// One video: what is known of its frames, and how they are drawn.

export const PLACES = ["different", "unstable", "stable", "inherited"];
const COLORS = ["#d9480f", "#e8a917", "#7d8b99", "#1f9d61"];
const OPEN = 9; // of a mask's digits: nothing is said
const DRAWN = 384; // px of the large canvas, about

export class Film {
  constructor(plan, model, atlas, caption) {
    [this.h, this.w] = plan.grid;
    [this.Y, this.X] = plan.size;
    this.side = this.X / this.w;
    this.count = plan.frames;
    this.keys = new Set(plan.key_frames);
    this.atlas = atlas;
    this.patches = model.patches;
    this.frames = Array.from({ length: plan.frames }, () => this.blank());
    this.scale = Math.max(1, Math.round(DRAWN / this.X));
    this.element = document.createElement("figure");
    this.element.className = "film";
    this.large = canvas(this.X * this.scale, this.Y * this.scale, "large");
    this.large.setAttribute("role", "img");
    this.large.setAttribute("aria-label", `${caption}, being made`);
    this.strip = document.createElement("div");
    this.strip.className = "strip";
    this.strip.setAttribute("aria-hidden", "true"); // the slider does the same for all
    this.small = this.frames.map((_, f) => {
      const one = canvas(this.X, this.Y, this.keys.has(f) ? "key" : "");
      one.dataset.frame = f;
      this.strip.append(one);
      return one;
    });
    this.caption = document.createElement("figcaption");
    this.caption.append(span(caption), span(""));
    this.element.append(this.large, this.strip, this.caption);
    this.frames.forEach((_, f) => this.drawSmall(f));
  }

  blank() {
    const pixels = canvas(this.X, this.Y);
    const c = pixels.getContext("2d");
    const styles = getComputedStyle(document.documentElement);
    const [a, b] = ["--empty-a", "--empty-b"].map((name) => styles.getPropertyValue(name));
    for (let p = 0; p < this.h * this.w; p++) {
      const [x, y] = this.corner(p);
      c.fillStyle = (Math.floor(p / this.w) + p) % 2 ? a : b;
      c.fillRect(x, y, this.side, this.side);
    }
    return { pixels, ids: new Int32Array(this.h * this.w).fill(-1), open: this.h * this.w, mask: null };
  }

  corner(place) {
    return [(place % this.w) * this.side, Math.floor(place / this.w) * this.side];
  }

  clear() {
    this.frames = this.frames.map((frame) => ({ ...this.blank(), mask: frame.mask }));
    this.frames.forEach((_, f) => this.drawSmall(f));
  }

  decide(f, place, id) {
    const frame = this.frames[f];
    if (frame.ids[place] < 0) frame.open -= 1;
    frame.ids[place] = id;
    const [x, y] = this.corner(place);
    const c = frame.pixels.getContext("2d");
    if (this.atlas) {
      const columns = this.patches.columns, s = this.side;
      c.drawImage(this.atlas, (id % columns) * s, Math.floor(id / columns) * s, s, s, x, y, s, s);
    } else {
      c.fillStyle = "#8d9a94";
      c.fillRect(x, y, this.side, this.side);
    }
  }

  show(f, picture, index) {
    this.frames[f].pixels.getContext("2d").drawImage(picture, -index * this.X, 0);
  }

  setMask(f, digits) {
    this.frames[f].mask = digits;
  }

  whole(f) {
    return this.frames[f].open === 0;
  }

  drawSmall(f) {
    const c = this.small[f].getContext("2d");
    c.drawImage(this.frames[f].pixels, 0, 0);
  }

  draw(f, overlay) {
    const c = this.large.getContext("2d"), frame = this.frames[f];
    c.imageSmoothingEnabled = false;
    c.drawImage(frame.pixels, 0, 0, this.large.width, this.large.height);
    if (overlay && frame.mask) {
      const s = this.side * this.scale;
      for (let p = 0; p < frame.mask.length; p++) {
        const place = Number(frame.mask[p]), [x, y] = this.corner(p);
        if (place !== OPEN) drawPlace(c, place, x * this.scale, y * this.scale, s);
      }
    }
    this.small.forEach((one, i) => one.classList.toggle("now", i === f));
  }
}

// A pattern for each kind of place, so that color is not needed to tell them apart:
// different - crossed lines, unstable - diagonals, stable - a dot, inherited - a plus.
export function drawPlace(c, place, x, y, s) {
  const strokes = (color, width) => {
    c.strokeStyle = c.fillStyle = color;
    c.lineWidth = width;
    c.beginPath();
    if (place === 0 || place === 1) {
      line(c, x + 0.3 * s, y + 0.7 * s, x + 0.7 * s, y + 0.3 * s);
      if (place === 0) line(c, x + 0.3 * s, y + 0.3 * s, x + 0.7 * s, y + 0.7 * s);
    } else if (place === 3) {
      line(c, x + 0.5 * s, y + 0.3 * s, x + 0.5 * s, y + 0.7 * s);
      line(c, x + 0.3 * s, y + 0.5 * s, x + 0.7 * s, y + 0.5 * s);
    } else {
      c.arc(x + 0.5 * s, y + 0.5 * s, 0.03 * s + width / 3, 0, 7);
      c.fill();
    }
    c.stroke();
  };
  c.save();
  c.lineCap = "round";
  if (place === 3) {
    c.fillStyle = "#1f9d6155";
    c.fillRect(x, y, s, s);
  }
  const width = Math.max(2, 0.055 * s);
  strokes("#0008", 2 * width);
  strokes(place === 3 ? "#d8ffe9" : COLORS[place], width);
  c.restore();
}

function line(c, ax, ay, bx, by) {
  c.moveTo(ax, ay);
  c.lineTo(bx, by);
}

function canvas(width, height, name = "") {
  const made = document.createElement("canvas");
  Object.assign(made, { width, height, className: name });
  return made;
}

export function span(text) {
  const made = document.createElement("span");
  made.textContent = text;
  return made;
}
