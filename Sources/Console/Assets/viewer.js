// The images of an analysed series: windowed and drawn here, from Hounsfield units that the node sends slice by slice.
(() => {
  "use strict";

  const MOST_PIXEL_BYTES = 192 << 20;
  const MOST_LAYERS = 48;
  const AHEAD = 10;
  const BEHIND = 4;
  const MOST_REQUESTS = 3;
  const MARK = "RESEARCH USE – NOT FOR DIAGNOSIS";

  // Keeps what was used last, up to a size.
  class Recent {
    constructor(most, size) {
      this.most = most;
      this.size = size;
      this.entries = new Map();
      this.used = 0;
    }
    has(key) {
      return this.entries.has(key);
    }
    get(key) {
      const value = this.entries.get(key);
      if (value === undefined) return undefined;
      this.entries.delete(key);
      this.entries.set(key, value);
      return value;
    }
    set(key, value) {
      this.entries.set(key, value);
      this.used += this.size(value);
      while (this.used > this.most && this.entries.size > 1) {
        const [oldest, gone] = this.entries.entries().next().value;
        this.entries.delete(oldest);
        this.used -= this.size(gone);
      }
    }
  }

  const clamp = (value, least, most) => Math.min(most, Math.max(least, value));

  function newCanvas(columns, rows) {
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = rows;
    return canvas;
  }

  // UInt16 little-endian in base64, 65535 for 1.
  function activations(text) {
    const bytes = atob(text);
    const values = new Float32Array(bytes.length / 2);
    for (let i = 0; i < values.length; i++) {
      values[i] = (bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1)) / 65535;
    }
    return values;
  }

  // Which values of a map a pixel lies between: bilinear, centres aligned, edges extended; null outside the box.
  function between(start, length, boxSize, mapSize) {
    return Array.from({ length }, (_, pixel) => {
      if (pixel < start || pixel >= start + boxSize) return null;
      const place = ((pixel - start + 0.5) * mapSize) / boxSize - 0.5;
      const lower = Math.floor(place);
      return { lower: clamp(lower, 0, mapSize - 1), upper: clamp(lower + 1, 0, mapSize - 1), share: place - lower };
    });
  }

  class Viewer {
    constructor(section) {
      this.section = section;
      this.source = section.dataset.source;
      this.stage = section.querySelector(".stage");
      this.canvas = this.stage.querySelector("canvas");
      this.message = section.querySelector(".stage-message");
      this.slider = section.querySelector(".slider");
      this.chart = section.querySelector(".chart");
      this.cursor = section.querySelector(".cursor");
      this.said = section.querySelector(".viewer-said");
      this.shown = {};
      for (const each of section.querySelectorAll("[data-show]")) this.shown[each.dataset.show] = each;
      this.window = { centre: 40, width: 80 };
      this.overlay = { on: true, opacity: 1 };
      this.view = { zoom: 1, x: 0, y: 0, actual: false };
      this.index = -1;
      this.direction = 1;
      this.pixels = new Recent(MOST_PIXEL_BYTES, (pixels) => pixels.byteLength);
      this.layers = new Recent(MOST_LAYERS, () => 1);
      this.loading = new Map();
      this.failed = new Map();
      this.retries = new Map();
      this.drawn = { index: -1 };
      this.start();
    }

    async start() {
      this.say("loading");
      let content;
      try {
        const response = await fetch(this.source, { credentials: "same-origin" });
        if (!response.ok || !response.headers.get("content-type")?.startsWith("application/json")) {
          throw new Error(await Viewer.reason(response));
        }
        content = await response.json();
      } catch (error) {
        this.say(error.message || "the node does not answer");
        return;
      }
      this.content = content;
      this.count = content.images.length;
      this.grey = newCanvas(content.columns, content.rows);
      this.greyContext = this.grey.getContext("2d", { alpha: false });
      this.greyPicture = this.greyContext.createImageData(content.columns, content.rows);
      this.greyPicture.data.fill(255);
      this.across = between(content.box.x, content.columns, content.box.size, content.mapSize);
      this.down = between(content.box.y, content.rows, content.box.size, content.mapSize);
      this.listen();
      new ResizeObserver(() => this.resize()).observe(this.stage);
      this.resize();
      this.setWindow(this.window.centre, this.window.width);
      this.go(this.mostSuspicious());
      // Keys work at once where there is nothing else on the page.
      const isAlone = location.pathname.endsWith("/images");
      if (isAlone && matchMedia("(hover: hover)").matches) this.stage.focus({ preventScroll: true });
    }

    // In the node's words, where it has some (RFC 9457).
    static async reason(response) {
      if (response.status === 401 || response.redirected) return "signed out: load the page again";
      const problem = await response.json().catch(() => ({}));
      return problem.detail ?? `the node answered with status ${response.status}`;
    }

    // MARK: Where in the series

    go(index) {
      const next = clamp(Math.round(index), 0, this.count - 1);
      if (next === this.index) return;
      this.direction = next >= this.index ? 1 : -1;
      this.index = next;
      // What could not be had may be had now.
      if (!this.failed.get(next)?.isFinal) this.failed.delete(next);
      this.slider.value = next;
      this.tell();
      this.load();
      this.redraw();
    }

    mostSuspicious() {
      const { slices } = this.content;
      const flagged = slices.some((slice) => slice.isFlagged);
      let most = null;
      for (const slice of slices) {
        if (flagged && !slice.isFlagged) continue;
        if (most === null || slice.probability > most.probability) most = slice;
      }
      return most.representative;
    }

    goFlagged(step) {
      const { images, slices } = this.content;
      for (let slice = images[this.index].slice + step; slice >= 0 && slice < slices.length; slice += step) {
        if (slices[slice].isFlagged) return this.go(slices[slice].representative);
      }
      this.announce(step > 0 ? "no flagged slice above" : "no flagged slice below");
    }

    tell() {
      const image = this.content.images[this.index];
      const slice = this.content.slices[image.slice];
      const probability = slice.probability.toFixed(3);
      const attention = slice.attention.toFixed(3);
      const flag = slice.isFlagged ? "flagged" : "not flagged";
      this.shown.place.textContent = this.index + 1;
      this.shown.number.textContent = image.number ?? "–";
      this.shown.position.textContent = image.position.toFixed(1);
      this.shown.probability.textContent = probability;
      this.shown.attention.textContent = attention;
      this.shown.flag.textContent = flag;
      this.shown.flag.classList.toggle("positive", slice.isFlagged);
      const text =
        `image ${this.index + 1} of ${this.count}, ${image.position.toFixed(1)} mm, ` +
        `probability ${probability}, attention ${attention}, ${flag}`;
      this.slider.setAttribute("aria-valuetext", text);
      this.cursor.setAttribute("x1", this.index + 0.5);
      this.cursor.setAttribute("x2", this.index + 0.5);
      // The slider speaks for itself.
      if (document.activeElement !== this.slider) this.announce(text, 600);
    }

    announce(text, delay = 0) {
      clearTimeout(this.announcing);
      this.announcing = setTimeout(() => (this.said.textContent = text), delay);
    }

    // MARK: Pixels

    wanted() {
      const wanted = [this.index];
      for (let step = 1; step <= AHEAD; step++) {
        wanted.push(this.index + step * this.direction);
        if (step <= BEHIND) wanted.push(this.index - step * this.direction);
      }
      return wanted.filter((index) => index >= 0 && index < this.count);
    }

    load() {
      for (const index of this.wanted()) {
        if (this.loading.size >= MOST_REQUESTS) return;
        if (this.pixels.has(index) || this.loading.has(index) || this.failed.has(index)) continue;
        this.loading.set(
          index,
          this.fetch(index).finally(() => {
            this.loading.delete(index);
            this.load();
            if (index === this.index) this.redraw();
          }),
        );
      }
    }

    async fetch(index) {
      const { rows, columns } = this.content;
      try {
        const response = await fetch(`${this.source}/${index}`, {
          credentials: "same-origin",
          priority: index === this.index ? "high" : "low",
        });
        if (!response.ok || response.headers.get("content-type") !== "application/octet-stream") {
          if (response.status >= 500) throw new Error("busy");
          this.failed.set(index, { text: await Viewer.reason(response), isFinal: true });
          return;
        }
        const bytes = await response.arrayBuffer();
        if (bytes.byteLength !== rows * columns * 2) throw new Error("cut short");
        this.pixels.set(index, new Int16Array(bytes));
        this.retries.delete(index);
        // Drawn before it is asked for.
        if (this.overlay.on) window.requestIdleCallback?.(() => this.layer(this.content.images[index].slice));
      } catch {
        const tries = (this.retries.get(index) ?? 0) + 1;
        this.retries.set(index, tries);
        this.failed.set(index, { text: "the node does not answer", isFinal: false });
        if (tries <= 5) {
          setTimeout(() => {
            this.failed.delete(index);
            this.load();
          }, 400 * tries);
        }
      }
    }

    // MARK: Drawing

    setWindow(centre, width) {
      // Fractions add up while a hand draws.
      this.drawing = { centre: clamp(centre, -1024, 3071), width: clamp(width, 1, 4096) };
      this.window = { centre: Math.round(this.drawing.centre), width: Math.round(this.drawing.width) };
      if (!this.table) this.table = new Uint8ClampedArray(65536);
      // PS3.3 C.11.2.1.3.2, linear exact: as the captures.
      for (let value = -32768; value < 32768; value++) {
        this.table[value + 32768] = ((value - this.window.centre) / this.window.width + 0.5) * 255;
      }
      for (const each of ["centre", "width"]) {
        const input = this.section.querySelector(`[data-window=${each}]`);
        if (document.activeElement !== input) input.value = this.window[each];
      }
      for (const button of this.section.querySelectorAll("[data-key]")) {
        const isChosen =
          Number(button.dataset.centre) === this.window.centre && Number(button.dataset.width) === this.window.width;
        button.setAttribute("aria-pressed", isChosen);
      }
      this.drawn.index = -1;
      this.redraw();
    }

    setOverlay(on) {
      this.overlay.on = on;
      this.section.querySelector("[data-do=overlay]").setAttribute("aria-pressed", on);
      this.redraw();
    }

    redraw() {
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    }

    draw() {
      if (this.index < 0) return;
      const pixels = this.pixels.get(this.index);
      const failure = this.failed.get(this.index);
      // An image never stands under another's number.
      this.say(pixels ? "" : failure ? failure.text : "loading");
      if (pixels && this.drawn.index !== this.index) {
        const { data } = this.greyPicture;
        for (let i = 0, at = 0; i < pixels.length; i++, at += 4) {
          data[at] = data[at + 1] = data[at + 2] = this.table[pixels[i] + 32768];
        }
        this.greyContext.putImageData(this.greyPicture, 0, 0);
        this.drawn.index = this.index;
      }
      this.paint(pixels !== undefined);
      this.section.dataset.drawn = pixels ? this.index : "";
    }

    // What is laid over a slice; null where nothing is known of it.
    layer(index) {
      if (this.layers.has(index)) return this.layers.get(index);
      const { rows, columns, mapSize, shades, slices } = this.content;
      if (!slices[index].map) return null;
      const map = activations(slices[index].map);
      const canvas = newCanvas(columns, rows);
      const context = canvas.getContext("2d");
      const picture = context.createImageData(columns, rows);
      let most = 0;
      for (let row = 0; row < rows; row++) {
        const below = this.down[row];
        if (!below) continue;
        const [top, bottom] = [below.lower * mapSize, below.upper * mapSize];
        for (let column = 0; column < columns; column++) {
          const beside = this.across[column];
          if (!beside) continue;
          const first = map[top + beside.lower] * (1 - beside.share) + map[top + beside.upper] * beside.share;
          const second = map[bottom + beside.lower] * (1 - beside.share) + map[bottom + beside.upper] * beside.share;
          const value = first * (1 - below.share) + second * below.share;
          if (value > most) most = value;
          const shade = 4 * Math.round(255 * value);
          if (!shades[shade + 3]) continue;
          const at = 4 * (row * columns + column);
          for (let part = 0; part < 4; part++) picture.data[at + part] = shades[shade + part];
        }
      }
      context.putImageData(picture, 0, 0);
      const layer = { canvas, most };
      this.layers.set(index, layer);
      return layer;
    }

    resize() {
      this.ratio = window.devicePixelRatio || 1;
      const { width, height } = this.stage.getBoundingClientRect();
      this.canvas.width = Math.max(1, Math.round(width * this.ratio));
      this.canvas.height = Math.max(1, Math.round(height * this.ratio));
      this.draw();
    }

    // Where the image lies on the canvas, device pixels.
    place() {
      const { rows, columns, pixelAspect } = this.content;
      const { width, height } = this.canvas;
      const fit = Math.min(width / columns, height / (rows * pixelAspect));
      const scale = this.view.actual ? this.view.zoom : fit * this.view.zoom;
      const [wide, high] = [columns * scale, rows * pixelAspect * scale];
      const left = (width - wide) / 2 + this.view.x * this.ratio;
      const top = (height - high) / 2 + this.view.y * this.ratio;
      return this.view.actual
        ? { left: Math.round(left), top: Math.round(top), wide, high }
        : { left, top, wide, high };
    }

    paint(hasPixels) {
      const context = this.canvas.getContext("2d", { alpha: false });
      const { width, height } = this.canvas;
      context.fillStyle = "#000";
      context.fillRect(0, 0, width, height);
      const { left, top, wide, high } = this.place();
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      const layer = this.overlay.on ? this.layer(this.content.images[this.index].slice) : null;
      if (hasPixels) {
        context.drawImage(this.grey, left, top, wide, high);
        if (layer) {
          context.globalAlpha = this.overlay.opacity;
          context.drawImage(layer.canvas, left, top, wide, high);
          context.globalAlpha = 1;
        }
      }
      this.write(context, hasPixels, layer);
    }

    write(context, hasPixels, layer) {
      const { width, height } = this.canvas;
      const unit = this.ratio * clamp(Math.min(width, height) / this.ratio / 45, 10, 15);
      const margin = unit * 0.7;
      context.font = `${unit}px system-ui, "DejaVu Sans", sans-serif`;
      context.lineWidth = unit / 4;
      context.lineJoin = "round";
      context.strokeStyle = "#000";
      context.fillStyle = "#fff";
      const text = (words, x, y, align = "left") => {
        context.textAlign = align;
        context.textBaseline = "alphabetic";
        context.strokeText(words, x, y);
        context.fillText(words, x, y);
      };
      const { edges, images, slices } = this.content;
      text(MARK, width / 2, height - margin, "center");
      if (!hasPixels) return;
      const image = images[this.index];
      const slice = slices[image.slice];
      const lines = [
        `Image ${image.number ?? "–"}  (${this.index + 1}/${this.count})`,
        `${image.position.toFixed(1)} mm`,
        `Probability ${slice.probability.toFixed(2)}${slice.isFlagged ? "  flagged" : ""}`,
        layer ? `Activation up to ${layer.most.toFixed(2)}` : "No activation shown",
      ];
      lines.forEach((line, number) => text(line, margin, margin + unit * (0.8 + 1.35 * number)));
      const { centre, width: wide } = this.window;
      text(`C ${centre}  W ${wide}`, width - margin, margin + unit * 0.8, "right");
      if (edges) {
        context.font = `bold ${unit * 1.3}px system-ui, "DejaVu Sans", sans-serif`;
        text(edges.left, margin, height / 2 + unit / 2);
        text(edges.right, width - margin, height / 2 + unit / 2, "right");
        text(edges.top, width / 2, margin + unit, "center");
        text(edges.bottom, width / 2, height - margin - unit * 1.5, "center");
      }
      if (layer) this.legend(context, unit, margin, text);
    }

    // A bar of the colour map, 1 at its top.
    legend(context, unit, margin, text) {
      const { shades } = this.content;
      const steps = shades.length / 4;
      const [length, thickness] = [this.canvas.height / 4, unit * 0.7];
      const left = this.canvas.width - margin - thickness;
      const top = this.canvas.height - margin - unit * 3 - length;
      context.fillStyle = "#000";
      context.fillRect(left, top, thickness, length);
      for (let step = 0; step < steps; step++) {
        if (!shades[4 * step + 3]) continue;
        context.fillStyle = `rgb(${shades[4 * step]}, ${shades[4 * step + 1]}, ${shades[4 * step + 2]})`;
        context.fillRect(left, top + length * (1 - (step + 1) / steps), thickness, length / steps + 1);
      }
      context.strokeStyle = "#aaa";
      context.lineWidth = this.ratio;
      context.strokeRect(left, top, thickness, length);
      context.fillStyle = "#fff";
      context.strokeStyle = "#000";
      context.lineWidth = unit / 4;
      context.font = `${unit * 0.9}px system-ui, "DejaVu Sans", sans-serif`;
      text("1", left - unit * 0.3, top + unit * 0.8, "right");
      text("0", left - unit * 0.3, top + length, "right");
    }

    say(text) {
      this.message.textContent = text;
      this.message.hidden = text === "";
    }

    // MARK: Hands

    listen() {
      const { section, stage, slider, chart } = this;
      slider.addEventListener("input", () => this.go(slider.valueAsNumber));
      section.addEventListener("keydown", (event) => this.key(event));
      section.addEventListener("click", (event) => this.click(event));
      for (const input of section.querySelectorAll("[data-window]")) {
        input.addEventListener("input", () => {
          if (!input.validity.valid || input.value === "") return;
          const { centre, width } = { ...this.window, [input.dataset.window]: input.valueAsNumber };
          this.setWindow(centre, width);
        });
      }
      const opacity = section.querySelector("[data-overlay]");
      opacity.addEventListener("input", () => {
        this.overlay.opacity = opacity.valueAsNumber / 100;
        this.setOverlay(true);
      });
      stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      stage.addEventListener("contextmenu", (event) => event.preventDefault());
      this.fingers = new Map();
      stage.addEventListener("pointerdown", (event) => this.press(event));
      stage.addEventListener("pointermove", (event) => this.move(event));
      stage.addEventListener("pointerleave", () => (this.shown.hounsfield.textContent = "–"));
      for (const end of ["pointerup", "pointercancel"]) {
        stage.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
      }
      const along = (event) => {
        const { left, width } = chart.getBoundingClientRect();
        this.go(Math.floor(((event.clientX - left) / width) * this.count));
      };
      chart.addEventListener("pointerdown", (event) => {
        chart.setPointerCapture(event.pointerId);
        along(event);
      });
      chart.addEventListener("pointermove", (event) => event.buttons & 1 && along(event));
      if (!section.requestFullscreen) section.querySelector("[data-do=full]").hidden = true;
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.matches("input:not(.slider), select, textarea")) return;
      const steps = {
        ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10,
      };
      const letters = {
        n: "next", p: "previous", m: "most", o: "overlay", f: "full", z: "actual", 0: "fit", "+": "larger",
        "=": "larger", "-": "smaller",
      };
      const preset = this.section.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
      if (event.key in steps) this.go(this.index + steps[event.key]);
      else if (event.key === "Home") this.go(0);
      else if (event.key === "End") this.go(this.count - 1);
      else if (event.key.toLowerCase() in letters) this.perform(letters[event.key.toLowerCase()]);
      else if (preset) this.setWindow(Number(preset.dataset.centre), Number(preset.dataset.width));
      else return;
      event.preventDefault();
    }

    click(event) {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.dataset.do) this.perform(button.dataset.do);
      else if (button.dataset.key) this.setWindow(Number(button.dataset.centre), Number(button.dataset.width));
    }

    perform(what) {
      switch (what) {
        case "next": return this.goFlagged(1);
        case "previous": return this.goFlagged(-1);
        case "most": return this.go(this.mostSuspicious());
        case "overlay": return this.setOverlay(!this.overlay.on);
        case "larger": return this.look({ zoom: clamp(this.view.zoom * 1.25, 0.5, 8) });
        case "smaller": return this.look({ zoom: clamp(this.view.zoom / 1.25, 0.5, 8) });
        case "fit": return this.look({ zoom: 1, x: 0, y: 0, actual: false });
        case "actual": return this.look({ zoom: 1, x: 0, y: 0, actual: true });
        case "full": {
          const done = document.fullscreenElement ? document.exitFullscreen() : this.section.requestFullscreen?.();
          return done?.catch(() => this.announce("no full screen here"));
        }
      }
    }

    look(change) {
      Object.assign(this.view, change);
      this.redraw();
    }

    wheel(event) {
      if (event.ctrlKey) return;
      event.preventDefault();
      const turned = event.deltaMode === 0 ? event.deltaY : event.deltaY * 100;
      // A mouse's notch is an image; a touchpad's pixels add up to one.
      this.turned = Math.abs(turned) >= 100 ? Math.sign(turned) * 40 : (this.turned ?? 0) + turned;
      if (Math.abs(this.turned) < 40) return;
      this.go(this.index - Math.sign(this.turned));
      this.turned = 0;
    }

    press(event) {
      this.stage.focus({ preventScroll: true });
      this.stage.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.dragged = 0;
      if (event.button === 1) event.preventDefault();
    }

    move(event) {
      const last = this.fingers.get(event.pointerId);
      this.tellHounsfield(event);
      if (!last) return;
      const [x, y] = [event.clientX - last.x, event.clientY - last.y];
      this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (event.buttons & 2 || this.fingers.size > 1) {
        const share = this.fingers.size > 1 ? 0.5 : 1;
        return this.setWindow(this.drawing.centre - y * share, this.drawing.width + x * share);
      }
      if (event.buttons & 4 || event.shiftKey) return this.look({ x: this.view.x + x, y: this.view.y + y });
      this.dragged += Math.abs(x) > Math.abs(y) ? x : -y;
      const pace = clamp((this.stage.clientHeight * 0.8) / this.count, 4, 24);
      const steps = Math.trunc(this.dragged / pace);
      if (steps === 0) return;
      this.dragged -= steps * pace;
      this.go(this.index + steps);
    }

    tellHounsfield(event) {
      const { rows, columns } = this.content;
      const bounds = this.stage.getBoundingClientRect();
      const { left, top, wide, high } = this.place();
      const column = Math.floor((((event.clientX - bounds.left) * this.ratio - left) / wide) * columns);
      const row = Math.floor((((event.clientY - bounds.top) * this.ratio - top) / high) * rows);
      const isInside = column >= 0 && column < columns && row >= 0 && row < rows;
      const pixels = isInside && this.pixels.get(this.index);
      this.shown.hounsfield.textContent = pixels ? `${pixels[row * columns + column]} HU` : "–";
    }
  }

  for (const section of document.querySelectorAll(".viewer[data-source]")) new Viewer(section);
})();
