"use strict";
// The only script of a page. It sorts tables, saves figures and their numbers, reads places of charts, and switches
// colours. Without it everything can be read and heard. It asks no network, and its names are never made markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDE = 720; // px of an SVG that is saved
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const parsed = new WeakMap();

  function numbersOf(place) {
    if (!parsed.has(place)) {
      const script = place.querySelector('script[type="application/json"]');
      parsed.set(place, script ? JSON.parse(script.textContent) : { columns: [], rows: [] });
    }
    return parsed.get(place);
  }

  function shown(value, unit) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (typeof value !== "number") return String(value);
    const size = Math.abs(value);
    let text;
    if (size !== 0 && (size >= 1e7 || size < 1e-4)) text = value.toExponential(2);
    else if (size >= 100 || Number.isInteger(value)) text = value.toFixed(0);
    else text = String(Number(value.toPrecision(3)));
    text = text.replace("-", "−");
    return unit ? `${text} ${unit}` : text;
  }

  // ---- saving ----

  function save(name, type, parts) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // A spreadsheet takes text that begins like this for a formula: an apostrophe before it makes it text
  const FORMULA = /^[=+\-@\t\r]/;

  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return Number.isNaN(value) ? "" : String(value);
    let text = String(value);
    if (FORMULA.test(text)) text = `'${text}`;
    return /[",\r\n;]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv(rows) {
    const text = rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
    // a mark of UTF-8, without which spreadsheets guess; where it is not needed, no program has to know it
    return /[^\x00-\x7f]/.test(text) ? "\ufeff" + text : text;
  }

  function cellsOf(layer) {
    if (!layer.read) {
      const bytes = Uint8Array.from(atob(layer.cells), (character) => character.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      layer.columns = layer.x.length - 1;
      layer.read = (row, column) => {
        const step = view.getUint16(2 * (row * layer.columns + column), true);
        if (step > layer.steps) return NaN;
        return layer.low + ((layer.high - layer.low) * step) / layer.steps;
      };
    }
    return layer;
  }

  function* imageRows(numbers) {
    const heading = (axis) => (axis.unit ? `${axis.label} (${axis.unit})` : axis.label);
    const [x, y] = [heading(numbers.x), heading(numbers.y)];
    for (const layer of numbers.layers.map(cellsOf)) {
      yield [`${x}, from`, `${x}, to`, `${y}, from`, `${y}, to`, layer.name];
      for (let row = 0; row + 1 < layer.y.length; row += 1) {
        for (let column = 0; column < layer.columns; column += 1) {
          const value = layer.read(row, column);
          yield [
            layer.x[column], layer.x[column + 1], layer.y[row], layer.y[row + 1],
            Number.isNaN(value) ? null : Number(value.toPrecision(6)),
          ];
        }
      }
    }
  }

  function saveNumbers(place) {
    const numbers = numbersOf(place);
    const rows = numbers.kind === "image" ? [...imageRows(numbers)] : [numbers.columns, ...numbers.rows];
    save(`${place.dataset.file}.csv`, "text/csv;charset=utf-8", [csv(rows)]);
  }

  const STYLES = [
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linejoin",
    "stroke-linecap", "font-family", "font-size", "font-weight",
  ];
  const ACROSS = ["x", "x1", "x2", "cx", "width"];

  // Every element of the copy gets the colours and places that the original has on a light page, so that programs
  // that know no style sheets draw the same
  function plain(original, copy, width, stretch) {
    const styles = getComputedStyle(original);
    for (const name of STYLES) copy.setAttribute(name, styles.getPropertyValue(name));
    for (const name of ACROSS) {
      const value = copy.getAttribute(name);
      if (value && value.endsWith("%")) copy.setAttribute(name, ((parseFloat(value) / 100) * width).toFixed(2));
      else if (value && stretch && name !== "cx") copy.setAttribute(name, (value * stretch).toFixed(2));
    }
    if (stretch && copy.hasAttribute("points")) {
      const moved = copy.getAttribute("points").split(" ").map((point) => {
        const [x, y] = point.split(",");
        return `${(x * stretch).toFixed(2)},${y}`;
      });
      copy.setAttribute("points", moved.join(" "));
    }
    for (const name of ["class", "vector-effect", "tabindex", "aria-label", "aria-hidden", "role", "data-plot"]) copy.removeAttribute(name);
    const inner = original.classList.contains("stretch");
    if (inner) {
      copy.setAttribute("viewBox", `0 0 ${width} ${original.getAttribute("height")}`);
      copy.removeAttribute("preserveAspectRatio");
    }
    const next = inner ? width / 1000 : stretch;
    const copies = [...copy.children];
    [...original.children].forEach((child, index) => plain(child, copies[index], width, next));
    if (copy.localName === "a") {
      const group = document.createElementNS(SVG, "g");
      group.append(...copy.childNodes);
      copy.replaceWith(group);
    }
  }

  function drawn(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function savedSvg(figure) {
    const root = document.documentElement;
    const before = root.dataset.theme;
    root.dataset.theme = "light";
    const svg = figure.querySelector("svg.chart");
    const styles = getComputedStyle(svg);
    const [left, right, top] = ["padding-left", "padding-right", "padding-top"].map((name) =>
      parseFloat(styles.getPropertyValue(name)));
    const copy = svg.cloneNode(true);
    const height = Number(svg.getAttribute("height"));
    plain(svg, copy, WIDE - left - right, 0);
    const saved = drawn("svg", { xmlns: SVG, width: WIDE, height, viewBox: `0 0 ${WIDE} ${height}` });
    saved.append(drawn("title", {}, figure.querySelector("figcaption").textContent.trim()));
    const told = svg.getAttribute("aria-label");
    saved.append(drawn("desc", {}, told));
    saved.append(drawn("rect", { width: "100%", height: "100%", fill: "#ffffff" }));
    const group = drawn("g", { transform: `translate(${left} ${top})` });
    group.append(...copy.childNodes);
    saved.append(group);
    const total = legendInto(saved, figure, left, height);
    saved.setAttribute("height", total);
    saved.setAttribute("viewBox", `0 0 ${WIDE} ${total}`);
    if (before === undefined) delete root.dataset.theme;
    else root.dataset.theme = before;
    return new XMLSerializer().serializeToString(saved);
  }

  function legendInto(saved, figure, left, height) {
    let bottom = height;
    for (const entry of all(".legend li", figure)) {
      const swatch = entry.querySelector("svg");
      const copy = swatch.cloneNode(true);
      plain(swatch, copy, 18, 0);
      const group = drawn("g", { transform: `translate(${left} ${bottom})` });
      group.append(...copy.childNodes);
      const text = drawn("text", { x: 26, y: 10, "font-size": 13, "font-family": "sans-serif", fill: "#17202b" }, entry.textContent.trim());
      saved.append(group);
      group.append(text);
      bottom += 20;
    }
    return bottom + (bottom > height ? 8 : 0);
  }

  function saveDrawing(figure) {
    hideCursor(figure.querySelector("svg.chart"));
    save(`${figure.dataset.file}.svg`, "image/svg+xml", ['<?xml version="1.0" encoding="UTF-8"?>\n', savedSvg(figure)]);
  }

  // ---- charts: what is under the pointer, or under the cursor that the arrow keys move ----

  function plotOf(svg) {
    const styles = getComputedStyle(svg);
    const box = svg.getBoundingClientRect();
    const [left, right, top] = ["padding-left", "padding-right", "padding-top"].map((name) =>
      parseFloat(styles.getPropertyValue(name)));
    return { left: box.left + left, top: box.top + top, width: box.width - left - right, height: Number(svg.dataset.plot) };
  }

  const valueAt = (axis, share) =>
    axis.scale === "log" ? axis.low * (axis.high / axis.low) ** share : axis.low + share * (axis.high - axis.low);
  const shareOf = (axis, value) =>
    axis.scale === "log" ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : (value - axis.low) / (axis.high - axis.low);

  function hideCursor(svg) {
    all(".cursor", svg).forEach((line) => line.remove());
  }

  function cursor(svg, across, down) {
    hideCursor(svg);
    const height = Number(svg.dataset.plot);
    const x = `${100 * across}%`;
    svg.append(drawn("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: height }));
    if (down !== undefined) {
      const y = down * height;
      svg.append(drawn("line", { class: "cursor", x1: 0, x2: "100%", y1: y, y2: y }));
    }
  }

  function nearest(rows, value) {
    let best = -1;
    let least = Infinity;
    rows.forEach((row, index) => {
      const distance = row[0] === null ? Infinity : Math.abs(row[0] - value);
      if (distance < least) [least, best] = [distance, index];
    });
    return best;
  }

  function lineReader(figure, svg, numbers) {
    const axis = numbers.x;
    let index = 0;
    const tell = () => {
      const row = numbers.rows[index];
      if (!row) return "";
      cursor(svg, Math.min(Math.max(shareOf(axis, row[0]), 0), 1));
      const values = numbers.columns.slice(1).map((name, place) => `${name}: ${shown(row[place + 1], numbers.unit)}`);
      return `${shown(row[0], axis.unit)}: ${values.join("; ")}`;
    };
    return {
      point: (across) => { index = nearest(numbers.rows, valueAt(axis, across)); return tell(); },
      move: (dx) => { index = Math.min(Math.max(index + dx, 0), numbers.rows.length - 1); return tell(); },
    };
  }

  function imageReader(figure, svg, numbers) {
    let [across, down] = [0.5, 0.5];
    const layers = numbers.layers.map(cellsOf);
    const found = (edges, value) => {
      let index = -1;
      while (index + 1 < edges.length && edges[index + 1] <= value) index += 1;
      return Math.min(index, edges.length - 2);
    };
    const tell = () => {
      cursor(svg, across, down);
      const [x, y] = [valueAt(numbers.x, across), valueAt(numbers.y, 1 - down)];
      const values = layers.map((layer) => {
        const [row, column] = [found(layer.y, y), found(layer.x, x)];
        const value = row < 0 || column < 0 ? NaN : layer.read(row, column);
        return `${layer.name.replace(/ \([^)]*\)$/, "")}: ${shown(value, layer.unit)}`;
      });
      return `${shown(x, numbers.x.unit)}, ${shown(y, numbers.y.unit)}: ${values.join("; ")}`;
    };
    const within = (value) => Math.min(Math.max(value, 0), 0.9999);
    return {
      point: (a, b) => { [across, down] = [within(a), within(b)]; return tell(); },
      move: (dx, dy) => { [across, down] = [within(across + dx / 100), within(down + dy / 50)]; return tell(); },
    };
  }

  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function readable(figure, svg, out, make) {
    let reader;
    const ready = () => (reader = reader || make(figure, svg, numbersOf(figure)));
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("pointermove", (event) => {
      const plot = plotOf(svg);
      const [x, y] = [(event.clientX - plot.left) / plot.width, (event.clientY - plot.top) / plot.height];
      if (x < 0 || x > 1 || y < 0 || y > 1) return;
      out.value = ready().point(x, y);
    });
    svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) { hideCursor(svg); out.value = ""; } });
    svg.addEventListener("blur", () => { hideCursor(svg); out.value = ""; });
    svg.addEventListener("keydown", (event) => {
      const step = KEYS[event.key];
      if (!step) return;
      event.preventDefault();
      const wide = event.shiftKey ? 10 : 1;
      out.value = ready().move(wide * step[0], wide * step[1]);
    });
  }

  // One stop of the tab key for all points; the arrow keys go from one to the next
  function points(svg, out) {
    const links = all("a.point", svg);
    const tell = (point) => { out.value = point ? point.getAttribute("aria-label") || point.querySelector("title").textContent : ""; };
    links.forEach((link, index) => link.setAttribute("tabindex", index ? "-1" : "0"));
    const focused = () => (svg.contains(document.activeElement) ? document.activeElement.closest(".point") : null);
    svg.addEventListener("pointerover", (event) => tell(event.target.closest(".point") || focused()));
    svg.addEventListener("focusin", (event) => tell(event.target.closest(".point")));
    svg.addEventListener("keydown", (event) => {
      const step = KEYS[event.key];
      const here = links.indexOf(event.target.closest("a.point"));
      if (!step || here < 0) return;
      event.preventDefault();
      const next = links[(here + step[0] + step[1] + links.length) % links.length];
      links[here].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }

  // What a link leads to takes the focus, so that the tab key goes on from there, also from within an SVG
  function follow(link) {
    const target = document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1)));
    if (!target) return;
    if (!target.hasAttribute("tabindex")) target.setAttribute("tabindex", "-1");
    for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "start" });
  }

  // ---- tables ----

  function sortBy(head) {
    const table = head.closest("table");
    const place = [...head.parentElement.children].indexOf(head);
    const numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    // a number is asked for its highest first, a name for its first
    const order = before === "none" ? (numeric ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
    const body = table.tBodies[0];
    const names = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => {
      const held = row.children[place];
      if (!numeric) return held.textContent.trim();
      return held.dataset.value === "" ? null : Number(held.dataset.value);
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : names.compare(a, b));
    });
    body.append(...rows.map(([, row]) => row));
    all("th[aria-sort]", head.parentElement).forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", order);
  }

  // ---- the page ----

  function switchTheme(button) {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    button.textContent = dark ? "Dark colours" : "Light colours";
  }

  function layer(button, figure) {
    const off = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!off));
    button.textContent = button.textContent.replace(off ? /^Shown/ : /^Hidden/, off ? "Hidden" : "Shown");
    all("image.layer", figure).forEach((image) => { if (off) image.setAttribute("visibility", "hidden"); else image.removeAttribute("visibility"); });
  }

  const ACTIONS = {
    csv: (button, place) => saveNumbers(place),
    svg: (button, place) => saveDrawing(place),
    layer,
    theme: switchTheme,
  };

  all("[data-needs-script]").forEach((part) => part.removeAttribute("hidden"));
  const theme = document.querySelector('[data-action="theme"]');
  if (theme && matchMedia("(prefers-color-scheme: dark)").matches) theme.textContent = "Light colours";
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button && button.classList.contains("sort")) sortBy(button.closest("th"));
    else if (button && ACTIONS[button.dataset.action]) ACTIONS[button.dataset.action](button, button.closest("[data-file]"));
    const link = event.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href").length > 1) follow(link);
  });
  for (const figure of all("figure[data-file]")) {
    const svg = figure.querySelector("svg.chart");
    const out = figure.querySelector("output.readout");
    if (!svg || !out) continue;
    if (figure.dataset.kind === "line") readable(figure, svg, out, lineReader);
    else if (figure.dataset.kind === "image") readable(figure, svg, out, imageReader);
    else points(svg, out);
  }
  const sounds = all("audio");
  for (const sound of sounds) {
    sound.volume = Number(sound.dataset.volume || 1);
    sound.addEventListener("play", () => sounds.forEach((other) => { if (other !== sound) other.pause(); }));
  }
  const closed = [];
  addEventListener("beforeprint", () => {
    for (const box of all("details:not([open])")) { closed.push(box); box.open = true; }
  });
  addEventListener("afterprint", () => { while (closed.length) closed.pop().open = false; });
})();
