// Figures that turn. No framework, nothing from another place; works when the page is opened from disk.
// Each <div class="turn-stage" data-widget="NAME"> holds its data as JSON; the function NAME below fills it.
(function () {
  "use strict";
  const extra = new URL("../turn/", document.currentScript.src); // scans and the viewer's script
  const SVG = "http://www.w3.org/2000/svg";
  let numbered = 0;

  // ------------------------------------------------------------------------------------------------- small pieces
  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (typeof value === "function") made.addEventListener(name, value);
      else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }
  const element = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const drawn = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // A labelled list to choose from: options are [value, words].
  function choice(label, options, value, changed) {
    const id = `turn-${++numbered}`;
    const select = element("select", { id, change: () => changed(select.value) });
    const box = element("div", { class: "turn-choice" }, element("label", { for: id }, label), select);
    box.offer = (offered, chosen) => {
      select.replaceChildren(...offered.map(([v, words]) => element("option", { value: v, selected: v === chosen }, words)));
      select.value = chosen;
    };
    box.offer(options, value);
    return box;
  }

  // A labelled tick; colour: of the layer that it switches.
  function tick(label, colour, checked, changed) {
    const input = element("input", { type: "checkbox", checked, change: () => changed(input.checked) });
    input.checked = checked;
    const swatch = colour ? [element("span", { class: "turn-swatch", style: `background:${colour}` })] : [];
    const words = element("span", {}, label);
    const box = element("label", { class: "turn-tick" }, input, ...swatch, words);
    box.say = (text) => { words.textContent = text; };
    return box;
  }

  function slider(label, from, to, step, value, changed) {
    const id = `turn-${++numbered}`;
    const input = element("input", { id, type: "range", min: from, max: to, step, value, input: () => changed(Number(input.value)) });
    const words = element("output", { for: id });
    const box = element("div", { class: "turn-slider" }, element("label", { for: id }, label), input, words);
    box.range = (low, high, at) => { input.min = low; input.max = high; input.value = at; };
    box.say = (text) => { words.textContent = text; input.setAttribute("aria-valuetext", text); };
    return box;
  }

  function number(value, digits = 2) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  }
  const interval = (row) => number(row.mean) + (row.lower === null ? " (no interval)" : ` (${number(row.lower)} to ${number(row.upper)})`);

  // The mark of a source, as in every other figure of the book.
  function mark(source, size = 14) {
    const shapes = {
      o: ["circle", { cx: 0, cy: 0, r: 5 }],
      s: ["rect", { x: -4.6, y: -4.6, width: 9.2, height: 9.2 }],
      "^": ["path", { d: "M0 -5.6 L5.4 4.4 L-5.4 4.4 Z" }],
      D: ["path", { d: "M0 -6 L6 0 L0 6 L-6 0 Z" }],
      X: ["path", { d: "M-5 -5 L-2.4 -5 L0 -2.4 L2.4 -5 L5 -5 L5 -2.4 L2.4 0 L5 2.4 L5 5 L2.4 5 L0 2.4 L-2.4 5 L-5 5 L-5 2.4 L-2.4 0 L-5 -2.4 Z" }],
    };
    const [tag, attributes] = shapes[source.marker] || shapes.o;
    const shape = drawn(tag, { ...attributes, fill: source.colour, stroke: "#fff", "stroke-width": 1 });
    return drawn("svg", { class: "turn-mark", viewBox: "-7 -7 14 14", width: size, height: size, "aria-hidden": "true" }, shape);
  }

  const loaded = {}; // address -> promise
  function script(name) {
    const url = new URL(name, extra).href;
    loaded[url] = loaded[url] || new Promise((resolve, reject) => {
      document.head.append(element("script", { src: url, load: () => resolve(url), error: () => reject(new Error(`${name} is missing`)) }));
    });
    return loaded[url];
  }
  async function layersOf(scan) {
    const url = await script(scan.file);
    return window.turnScans[url];
  }

  // -------------------------------------------------------------------------------------------- (1) who is on top
  function ranking(stage, data) {
    const sources = Object.fromEntries(data.sources.map((s) => [s.name, s]));
    let target = data.targets[0], metric = target.metrics[0], person = "";
    const rows = element("ol", { class: "turn-rows" });
    const axis = element("div", { class: "turn-axis", "aria-hidden": "true" });
    const said = element("output", { class: "turn-said" });
    const kind = element("p", { class: "turn-note" });
    const pickTarget = choice("Target", data.targets.map((t) => [t.name, t.title]), target.name, (name) => {
      target = data.targets.find((t) => t.name === name);
      metric = target.metrics.find((m) => m.name === metric.name) || target.metrics[0];
      person = "";
      offer();
    });
    const pickMetric = choice("Metric", [], "", (name) => { metric = target.metrics.find((m) => m.name === name); offer(); });
    const pickPerson = choice("Person", [], "", (name) => { person = name; highlight(); });

    function offer() {
      pickMetric.offer(target.metrics.map((m) => [m.name, m.title]), metric.name);
      pickPerson.offer([["", "everybody"], ...target.people.map((p) => [p, p])], person);
      draw();
    }

    function draw() {
      const values = metric.rows.flatMap((r) => [...r.points, r.mean, r.lower, r.upper]).filter((v) => v !== null);
      const top = metric.lower ? Math.max(...values, 1) * 1.05 : 1;
      const place = (v) => `${(100 * v) / top}%`; // no metric here is below 0; an interval is cut there
      const order = [...metric.rows].sort((a, b) => (metric.lower ? 1 : -1) * ((a.mean ?? Infinity) - (b.mean ?? Infinity)));
      rows.replaceChildren(...order.map((row) => {
        const source = sources[row.source];
        const strip = element("div", { class: "turn-strip", "aria-hidden": "true" });
        row.points.forEach((v, k) => {
          if (v === null) return;
          // a person stands at one height in all rows, as in the printed figure
          const height = target.people.length > 1 ? 12 + (76 * k) / (target.people.length - 1) : 50;
          strip.append(element("span", { class: "turn-dot", "data-person": target.people[k], style: `left:${place(v)};top:${height}%;background:${source.colour}` }));
        });
        if (row.lower !== null) {
          const low = Math.max(row.lower, 0), high = Math.min(row.upper, top);
          strip.append(element("span", { class: "turn-bar", style: `left:${place(low)};width:calc(${place(high)} - ${place(low)});background:${source.colour}` }));
        }
        if (row.mean !== null) {
          const shape = mark(source, 18);
          shape.style.left = place(row.mean);
          strip.append(shape);
        }
        return element("li", { "data-source": row.source }, element("span", { class: "turn-name" }, mark(source), ` ${source.title}`), strip, element("span", { class: "turn-value" }, interval(row)));
      }));
      const ticks = [0, 1, 2, 3, 4].map((k) => (top * k) / 4);
      axis.replaceChildren(...ticks.map((v) => element("span", { style: `left:${place(v)}` }, number(v, top > 10 ? 0 : 2))));
      kind.textContent = `${target.kind}${target.kind ? ". " : ""}${metric.title}: ${metric.lower ? "lower" : "higher"} is better.`;
      highlight();
    }

    function highlight() {
      rows.classList.toggle("turn-following", person !== "");
      for (const dot of rows.querySelectorAll(".turn-dot")) dot.classList.toggle("turn-chosen", dot.dataset.person === person);
      const k = target.people.indexOf(person);
      said.textContent = k < 0
        ? `${target.people.length} people tested. Point at one, or choose a person.`
        : `${person}: ${metric.rows.map((r) => `${sources[r.source].title} ${number(r.points[k])}`).join("; ")}.`;
    }

    // pointing follows a person; pressing keeps them
    const under = (event) => event.target.closest(".turn-dot");
    let kept = "";
    rows.addEventListener("pointerover", (event) => { const dot = under(event); if (dot) { kept = kept || person || " "; person = dot.dataset.person; highlight(); } });
    rows.addEventListener("pointerout", (event) => { if (under(event)) { person = kept.trim(); kept = ""; highlight(); } });
    rows.addEventListener("click", (event) => {
      const dot = under(event);
      person = dot ? dot.dataset.person : "";
      kept = dot ? person : "";
      pickPerson.querySelector("select").value = person;
      highlight();
    });
    stage.append(element("div", { class: "turn-controls" }, pickTarget, pickMetric, pickPerson), element("div", { class: "turn-paper" }, rows, axis), kind, said);
    offer();
  }

  // ------------------------------------------------------------------------- what slices and viewer have in common
  // Lists for the scan and two sources, and ticks for the layers, with what to do after each kind of choice.
  function layerControls(data, layers, newScan, newSource, switched) {
    const state = { scan: data.scans[0], A: "", B: "", on: Object.fromEntries(layers.map((l) => [l, true])) };
    const pickScan = choice("Scan", data.scans.map((s, k) => [String(k), s.title]), "0", (k) => { start(data.scans[Number(k)]); newScan(); });
    const pick = {};
    for (const side of ["A", "B"]) pick[side] = choice(`Source ${side}`, [], "", (name) => { state[side] = name; label(); newSource(); });
    const ticks = Object.fromEntries(layers.map((layer) => [layer, tick("", data.colours[layer], true, (on) => { state.on[layer] = on; switched(); })]));
    const title = (name) => state.scan.sources.find((s) => s.name === name).title;
    function label() {
      for (const [layer, box] of Object.entries(ticks)) box.say(layer in state && layer !== "scan" ? `${layer}: ${title(state[layer])}` : layer);
    }
    function start(scan) {
      const names = scan.sources.map((s) => s.name);
      state.scan = scan;
      state.A = names.includes(state.A) ? state.A : scan.first[0];
      state.B = names.includes(state.B) ? state.B : scan.first[scan.first.length - 1];
      for (const side of ["A", "B"]) pick[side].offer(scan.sources.map((s) => [s.name, s.title]), state[side]);
      label();
    }
    start(state.scan);
    const lists = [...(data.scans.length > 1 ? [pickScan] : []), pick.A, pick.B];
    const boxes = element("fieldset", { class: "turn-layers" }, element("legend", {}, "Layers"), ...Object.values(ticks));
    return { state, title, lists, boxes };
  }

  function scoreWords(state, title) {
    const words = ["A", "B"].map((side) => `${title(state[side])} ${number(state.scan.scores[state[side]])}`);
    return `${state.scan.kind}. ${state.scan.metric} of this person on the whole volume: ${words.join(", ")}. ${state.scan.credit}`;
  }

  // ------------------------------------------------------------------------------------------ (2) slice by slice
  // A gzipped NIfTI in base64 as { size: [x, y, z], mm: [x, y, z], at(x, y, z) }.
  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const head = new DataView(buffer);
    const size = [42, 44, 46].map((at) => head.getInt16(at, true));
    const voxels = new Uint8Array(buffer, head.getFloat32(108, true));
    return { size, mm: [80, 84, 88].map((at) => head.getFloat32(at, true)), at: (x, y, z) => voxels[x + size[0] * (y + size[1] * z)] };
  }

  function slices(stage, data) {
    const zoom = 5; // canvas pixels a voxel
    const canvas = element("canvas", { role: "img" });
    const note = element("p", { class: "turn-note" });
    const said = element("output", { class: "turn-said" });
    const controls = layerControls(data, ["scan", "reference", "A", "B"], open, show, draw);
    const { state, title } = controls;
    const move = slider("Slice", 1, 2, 1, 1, (value) => { z = value - 1; draw(); });
    let z = 0, volumes = null, asked = 0;

    async function open() {
      z = state.scan.centre[2];
      await show();
    }
    // unpack what is needed and not there yet, then draw
    async function show() {
      const mine = ++asked;
      const layers = await layersOf(state.scan);
      const wanted = { scan: "scan", reference: "reference", A: state.A, B: state.B };
      const got = {};
      for (const [layer, name] of Object.entries(wanted)) got[layer] = await unpack(layers[name]);
      if (mine !== asked) return; // the reader has chosen something else meanwhile
      volumes = got;
      const [nx, ny, nz] = volumes.scan.size;
      canvas.width = nx * zoom;
      canvas.height = ny * zoom;
      move.range(1, nz, z + 1);
      note.textContent = scoreWords(state, title);
      draw();
    }

    function draw() {
      if (!volumes) return;
      const [nx, ny, nz] = volumes.scan.size;
      const context = canvas.getContext("2d");
      // the subject's right on the left, the front at the top
      const value = (volume, column, row) => volume.at(nx - 1 - column, ny - 1 - row, z);
      context.fillStyle = "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
      if (state.on.scan) {
        const small = element("canvas", { width: nx, height: ny });
        const grey = small.getContext("2d").createImageData(nx, ny);
        for (let row = 0; row < ny; row++) {
          for (let column = 0; column < nx; column++) {
            const g = value(volumes.scan, column, row), k = 4 * (row * nx + column);
            grey.data[k] = grey.data[k + 1] = grey.data[k + 2] = g;
            grey.data[k + 3] = 255;
          }
        }
        small.getContext("2d").putImageData(grey, 0, 0);
        context.drawImage(small, 0, 0, canvas.width, canvas.height);
      }
      const area = {};
      for (const layer of ["A", "B", "reference"]) {
        let n = 0;
        context.fillStyle = data.colours[layer];
        for (let row = 0; row < ny; row++) {
          for (let column = 0; column < nx; column++) {
            const here = value(volumes[layer], column, row);
            if (here) n++;
            if (!state.on[layer]) continue;
            const x = column * zoom, y = row * zoom;
            if (here && state.scan.classes === 1) { context.globalAlpha = 0.28; context.fillRect(x, y, zoom, zoom); context.globalAlpha = 1; }
            // an outline wherever the label changes
            if (column && here !== value(volumes[layer], column - 1, row)) context.fillRect(x - 1, y - 1, 2, zoom + 2);
            if (row && here !== value(volumes[layer], column, row - 1)) context.fillRect(x - 1, y - 1, zoom + 2, 2);
          }
        }
        area[layer] = (n * volumes.scan.mm[0] * volumes.scan.mm[1]) / 100;
      }
      context.fillStyle = "#fff";
      context.font = "bold 18px sans-serif";
      context.fillText("R", 6, 22);
      context.fillText("L", canvas.width - 18, 22);
      move.say(`${z + 1} of ${nz}`);
      const words = `Area on this slice: reference ${number(area.reference, 1)} cm², A ${number(area.A, 1)} cm², B ${number(area.B, 1)} cm².`;
      said.textContent = words;
      canvas.setAttribute("aria-label", `${state.scan.title}, axial slice ${z + 1} of ${nz}. ${words}`);
    }

    stage.append(element("div", { class: "turn-controls" }, ...controls.lists), controls.boxes, move, element("div", { class: "turn-picture" }, canvas), said, note);
    return open();
  }

  // ------------------------------------------------------------------------------- (3) three planes and in space
  async function viewer(stage, data) {
    if (!data.viewer) throw new Error(`this copy of the book was built without the 3-D viewer (${data.without})`);
    const define = window.define; // NiiVue would hand itself to an AMD loader, if a page had one
    window.define = undefined;
    try { await script(data.viewer); } finally { window.define = define; }
    const { Niivue, NVImage, SLICE_TYPE } = window.niivue;
    const canvas = element("canvas", { tabindex: 0, role: "img" });
    const note = element("p", { class: "turn-note" });
    const said = element("output", { class: "turn-said" });
    const controls = layerControls(data, ["reference", "A", "B"], show, show, show);
    const { state, title } = controls;
    const view = choice("View", [["MULTIPLANAR", "three planes and space"], ["RENDER", "space"], ["AXIAL", "axial"], ["CORONAL", "coronal"], ["SAGITTAL", "sagittal"]], "MULTIPLANAR", (name) => nv.setSliceType(SLICE_TYPE[name]));
    stage.append(element("div", { class: "turn-controls" }, ...controls.lists, view), controls.boxes, element("div", { class: "turn-space" }, canvas), said, note);
    const nv = new Niivue({
      isRadiologicalConvention: true, dragAndDropEnabled: false, scrollRequiresFocus: true, logLevel: "silent",
      show3Dcrosshair: true, crosshairWidth: 0.5, crosshairColor: [0.9, 0.62, 0, 0.8], multiplanarForceRender: true, multiplanarLayout: 2, // two by two
      isAntiAlias: true,
    });
    nv.onLocationChange = (at) => {
      const values = at.values.map((v) => v.value);
      const words = at.values.length ? [`scan ${Math.round(values[0])}`, ...["reference", "A", "B"].map((l, k) => `${l} ${values[k + 1] > 0 ? "marked" : "not marked"}`)] : [];
      said.textContent = `At ${Array.from(at.mm).slice(0, 3).map((v) => number(v, 0)).join(", ")} mm: ${words.join(", ")}.`;
    };
    await nv.attachToCanvas(canvas);
    canvas.addEventListener("keydown", (event) => {
      const turned = nv.opts.sliceType === SLICE_TYPE.RENDER;
      const steps = { ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      if (turned) nv.setRenderAzimuthElevation(nv.scene.renderAzimuth - 10 * step[0], nv.scene.renderElevation + 10 * (step[1] + step[2]));
      else nv.moveCrosshairInVox(...step);
    });

    // labels: 0 is clear; one class takes the layer's colour, several take the colours of the classes
    function colours(layer) {
      const shown = state.scan.classes === 1 ? [data.colours[layer]] : state.scan.colours;
      const part = (from) => [0, ...shown.map((c) => parseInt(c.slice(from, from + 2), 16))];
      return { R: part(1), G: part(3), B: part(5), A: [0, ...shown.map(() => 255)], I: shown.map((c, k) => k).concat(shown.length), labels: ["", ...shown.map(() => layer)] };
    }
    let open = "", asked = 0;
    async function show() {
      const mine = ++asked;
      const layers = await layersOf(state.scan);
      const wanted = [state.scan.file, state.A, state.B].join();
      if (wanted !== open) {
        const images = [await NVImage.loadFromBase64({ base64: layers.scan, name: "scan.nii.gz", colormap: "gray" })];
        for (const [layer, name] of [["reference", "reference"], ["A", state.A], ["B", state.B]]) {
          const image = await NVImage.loadFromBase64({ base64: layers[name], name: `${layer}.nii.gz`, opacity: 0.6 });
          image.setColormapLabel(colours(layer));
          images.push(image);
        }
        if (mine !== asked) return;
        const sameScan = open.split(",")[0] === state.scan.file;
        open = wanted;
        while (nv.volumes.length) nv.removeVolumeByIndex(0);
        images.forEach((image) => nv.addVolume(image));
        if (!sameScan) nv.scene.crosshairPos = nv.vox2frac(state.scan.centre);
      }
      ["reference", "A", "B"].forEach((layer, k) => nv.setOpacity(k + 1, state.on[layer] ? 0.6 : 0));
      nv.createOnLocationChange();
      note.textContent = scoreWords(state, title);
      canvas.setAttribute("aria-label", `${state.scan.title} in three planes and in space, with the reference and two predictions. Arrow keys, Page Up and Page Down move.`);
    }
    return show();
  }

  // ------------------------------------------------------------------------------- (4) when a lesion counts as found
  function detection(stage, data) {
    const words = (at) => (at === 0 ? "one voxel" : `${Math.round(100 * at)} %`);
    let target = data.targets[0], person = target.people[target.first], rate = "f1";
    let k = data.overlaps.findIndex((o) => Math.abs(o - 0.1) < 1e-6);
    const pickTarget = choice("Target", data.targets.map((t) => [t.name, t.title]), target.name, (name) => {
      target = data.targets.find((t) => t.name === name);
      person = target.people[target.first];
      offer();
      draw();
    });
    const pickRate = choice("Drawn", Object.entries(data.rates), rate, (name) => { rate = name; draw(); });
    const pickPerson = choice("One person", [], "", (name) => { person = target.people.find((p) => p.name === name); draw(); });
    const move = slider("Overlap asked for", 0, data.overlaps.length - 1, 1, k, (value) => { k = value; draw(); });
    const offer = () => pickPerson.offer(target.people.map((p) => [p.name, p.shown === "tested" ? p.name : `${p.name} (${p.shown})`]), person.name);

    // The curves of every source on one piece of paper, with a mark where the rule stands.
    function curves(rows, label, wide) {
      const high = 240, left = 34, bottom = 34;
      const x = (share) => left + (wide - left - 24) * share;
      const y = (v) => 8 + (high - bottom - 8) * (1 - v);
      const chart = drawn("svg", { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, role: "img", "aria-label": label });
      for (const v of [0, 0.25, 0.5, 0.75, 1]) {
        chart.append(drawn("path", { d: `M${left} ${y(v)} H${x(1)}`, stroke: "#e6e6e6" }), drawn("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(2)));
        chart.append(drawn("text", { x: x(v), y: high - bottom + 16, "text-anchor": "middle" }, v === 0 ? "0" : `${100 * v} %`));
      }
      chart.append(drawn("text", { x: x(0.5), y: high - 3, "text-anchor": "middle" }, "overlap asked for"));
      chart.append(drawn("path", { d: `M${x(data.overlaps[k])} ${y(1)} V${y(0)}`, stroke: "#555", "stroke-dasharray": "4 3", class: "turn-rule" }));
      for (const source of data.sources.filter((s) => s.name in rows)) {
        const values = rows[source.name][rate];
        const line = values.map((v, n) => (v === null ? null : [x(data.overlaps[n]), y(v)])).filter((p) => p);
        chart.append(drawn("polyline", { points: line.map((p) => p.map((v) => v.toFixed(1)).join()).join(" "), fill: "none", stroke: source.colour, "stroke-width": 1.6 }));
        if (values[k] === null) continue;
        const shape = mark(source, 14);
        fill(shape, { x: x(data.overlaps[k]) - 7, y: y(values[k]) - 7 }, []);
        chart.append(shape);
      }
      return chart;
    }

    // One half of the figure: a heading, the curves, and the numbers at the rule.
    function half(name, heads) {
      const heading = element("p", { class: "turn-heading" }), note = element("p", { class: "turn-note" });
      const paper = element("div", { class: "turn-paper" }), body = element("tbody");
      const head = element("tr", {}, ...["Source", ...heads].map((t) => element("th", { scope: "col" }, t)));
      const table = element("table", { class: "turn-counts" }, element("thead", {}, head), body);
      const region = element("div", { class: "turn-paper turn-wide", tabindex: 0, role: "region", "aria-label": `${name}: numbers of every source at the overlap asked for` }, table);
      const box = element("div", { class: "turn-half", "data-half": name }, heading, paper, region, note);
      box.show = (title, remark, rows, cells) => {
        heading.textContent = title;
        note.textContent = remark;
        const label = `${title}: ${data.rates[rate]} by the overlap asked for, ${Object.keys(rows).length} sources; the table below holds the numbers at ${words(data.overlaps[k])}.`;
        paper.replaceChildren(curves(rows, label, Math.max(paper.clientWidth - 16, 220)));
        body.replaceChildren(...data.sources.filter((s) => s.name in rows).map((source) =>
          element("tr", { "data-source": source.name }, element("th", { scope: "row" }, mark(source), ` ${source.title}`), ...cells(rows[source.name]).map((c) => element("td", {}, c)))));
      };
      box.wide = () => paper.clientWidth;
      return box;
    }
    const all = half("all", ["F1", "sensi\u00adtivity", "preci\u00adsion"]);
    const one = half("one", ["lesions found", "predicted, true", "F1"]);

    function draw() {
      // how many people stand behind a mean is said where it is not all of them
      const mean = (row, name) => number(row[name][k]) + (row[`n_${name}`][k] === target.n ? "" : ` [n = ${row[`n_${name}`][k]}]`);
      all.hidden = !target.n;
      if (target.n) all.show(`All ${target.n} test people: mean ${data.rates[rate]}`, target.kind && `${target.kind}.`, target.means, (row) => ["f1", "sensitivity", "precision"].map((name) => mean(row, name)));
      one.show(`One person: ${person.name}`, person.kind && `${person.kind}.`, person.rows, (row) => [`${row.found[k]} of ${row.lesions}`, `${row.true[k]} of ${row.predicted[k]}`, number(row.f1[k])]);
      move.say(words(data.overlaps[k]));
    }
    const pair = element("div", { class: "turn-pair" }, all, one);
    stage.append(element("div", { class: "turn-controls" }, ...(data.targets.length > 1 ? [pickTarget] : []), pickRate, pickPerson), move, pair);
    offer();
    draw();
    let width = one.wide();
    new ResizeObserver(() => { if (one.wide() !== width) { width = one.wide(); draw(); } }).observe(one);
  }

  // ---------------------------------------------------------------------------------------------------------- start
  const widgets = { ranking, slices, viewer, detection };

  // Each figure starts when it comes near the screen. If it cannot, its picture stays, and the page says why.
  async function start(stage) {
    const figure = stage.closest("figure");
    const off = stage.querySelector(".turn-off");
    try {
      const data = JSON.parse(stage.querySelector("script").textContent);
      figure.classList.add("turn-live");
      await widgets[stage.dataset.widget](stage, data);
      off.remove();
      stage.dataset.state = "live";
    } catch (error) {
      figure.classList.remove("turn-live");
      stage.replaceChildren(off);
      off.textContent = `Here is a picture in place of the moving figure: ${error.message}.`;
      stage.dataset.state = "still";
    }
  }
  function startAll() {
    const near = new IntersectionObserver((seen) => {
      for (const entry of seen) if (entry.isIntersecting) { near.unobserve(entry.target); start(entry.target); }
    }, { rootMargin: "600px" });
    document.querySelectorAll(".turn-stage").forEach((stage) => near.observe(stage));
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", startAll);
  else startAll();
})();
