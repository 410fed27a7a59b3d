// Lanes, selected flip and sound of the parity screen, drawn over plotly's figure: nothing that the mouse does
// here makes plotly draw. What is in view comes from the kernel (parity_canvas.py); until it is there, what was
// drawn before is moved and stretched.

const EPOCH = 946684800000; // ms, where recordings begin on the time axis (workbench/plots/lanes.py)
const CLICK = 4; // px that the mouse may move between down and up
const REACH = 14; // px from the mouse to the mark it means
const NARROWEST = 0.1; // s in view
const PATIENCE = 3000; // ms after which the kernel is asked again
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const LANES = ["yaxis", "yaxis2", "yaxis3", "yaxis4", "yaxis5"]; // posteriors, flips, posteriors, difference, output
const KINDS = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u1: Uint8Array };

// Bytes come as a view of a message, or as a buffer of their own where a page that was reloaded asked for them.
function numbers(view, kind) {
  const bytes = view.buffer ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : view;
  return new KINDS[kind](bytes);
}

function clock(seconds, decimals = 3, long = false) {
  const unit = 10 ** decimals;
  const all = Math.max(0, Math.round(seconds * unit));
  const whole = Math.floor(all / unit);
  const pad = (value, digits) => String(value).padStart(digits, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const head = hours || long ? `${hours}:${pad(minutes, 2)}` : `${minutes}`;
  return `${head}:${pad(whole % 60, 2)}${decimals ? "." + pad(all % unit, decimals) : ""}`;
}

const short = (value) => (Number.isNaN(value) ? "NaN" : value >= 1e9 ? "∞" : String(Number(value.toPrecision(3))));

function rgb(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

function sheet(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(width, 1), Math.max(height, 1)];
  return canvas;
}

// One pixel per column and class: colour by class, opacity by probability.
function posteriorgram(levels, colors) {
  const [rows, columns] = [colors.length, levels.length / colors.length];
  const canvas = sheet(columns, rows);
  const image = new ImageData(canvas.width, rows);
  const shades = colors.map(rgb);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at += 4) {
      image.data.set(shades[row], at);
      image.data[at + 3] = levels[column * rows + row];
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function hatch(shape) {
  const canvas = sheet(6, 6);
  const pen = canvas.getContext("2d");
  pen.strokeStyle = "rgba(0,0,0,0.42)";
  pen.beginPath();
  for (const shift of [-6, 0, 6]) {
    if (shape !== "\\") { pen.moveTo(shift - 1, 7); pen.lineTo(shift + 7, -1); }
    if (shape !== "/") { pen.moveTo(shift - 1, -1); pen.lineTo(shift + 7, 7); }
  }
  pen.stroke();
  return pen.createPattern(canvas, "repeat");
}

function unpack(packet, look) {
  const ticks = packet.ticks;
  const found = {
    scene: packet.scene,
    ticks: {
      time: numbers(ticks.time, "f8"), row: numbers(ticks.row, "i4"), flips: numbers(ticks.flips, "i4"),
      near: numbers(ticks.near, "u1"), margin: numbers(ticks.margin, "f4"),
      from: numbers(ticks.from, "i4"), to: numbers(ticks.to, "i4"),
    },
    regions: {
      start: numbers(packet.regions.start, "f8"), end: numbers(packet.regions.end, "f8"),
      row: numbers(packet.regions.row, "u1"), hatched: numbers(packet.regions.hatched, "u1"),
      turns: numbers(packet.regions.turns, "i4"), text: packet.regions.text,
    },
    raster: null,
  };
  const raster = packet.raster;
  if (raster) {
    const levels = ["baseline", "candidate"].map((side) => numbers(raster[side], "u1"));
    found.raster = {
      start: raster.start, step: raster.step, levels, pictures: levels.map((each) => posteriorgram(each, look.class_colors)),
      difference: numbers(raster.difference, "f4"), from: numbers(raster.from, "i4"), to: numbers(raster.to, "i4"),
    };
  }
  return found;
}

function render({ model, el }) {
  el.classList.add("wb-parity-home");
  const [lanesCanvas, detailCanvas] = [sheet(1, 1), sheet(1, 1)];
  const [hand, detailHand] = [document.createElement("div"), document.createElement("div")];
  const tip = document.createElement("div");
  lanesCanvas.className = "wb-parity-canvas wb-parity-lanes";
  detailCanvas.className = "wb-parity-canvas wb-parity-detail";
  hand.className = "wb-parity-hand";
  detailHand.className = "wb-parity-hand wb-parity-scores";
  tip.className = "wb-parity-tip";
  tip.style.display = "none";
  const hatches = {};
  const patterned = (shape) => (hatches[shape] ??= hatch(shape));

  let gd = null;
  let view = null; // start and end (s) of what is visible
  let lanes = null; // what the kernel sent last
  let sound = null; // picture of it
  let region = null; // start and end (s) of what is marked
  let dragged = null; // where and how the mouse went down
  let drawing = 0;
  let waiting = 0; // since when, for the kernel; meanwhile only the newest wish is kept
  let wanted = false;
  let sharpness = 0; // pixels of the screen per pixel of the page, when it was last drawn

  const look = () => model.get("look");
  const axis = (name) => gd._fullLayout[name];
  const width = () => axis("xaxis")._length;
  const left = () => axis("xaxis")._offset;
  const pixel = (seconds) => left() + ((seconds - view[0]) / (view[1] - view[0])) * width();
  const second = (at) => view[0] + ((at - left()) / width()) * (view[1] - view[0]);
  const down = (name, value) => axis(name)._offset + axis(name).l2p(value);
  const floor = () => axis("yaxis5")._offset + axis("yaxis5")._length;

  // -- drawing -------------------------------------------------------------------------------

  const begin = (canvas, x, y, w, h) => {
    const scale = (sharpness = window.devicePixelRatio || 1);
    const [across, high] = [Math.round(w * scale), Math.round(h * scale)];
    if (canvas.width !== across || canvas.height !== high) [canvas.width, canvas.height] = [across, high];
    Object.assign(canvas.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, -x * scale, -y * scale); // drawn in pixels of the figure
    pen.clearRect(x, y, w, h);
    pen.font = `11px ${look().font}`;
    return pen;
  };

  const clipped = (pen, x, y, w, h, paint) => {
    pen.save();
    pen.beginPath();
    pen.rect(x, y, w, h);
    pen.clip();
    paint();
    pen.restore();
  };

  const lane = (pen, name, paint) => clipped(pen, left(), axis(name)._offset, width(), axis(name)._length, paint);

  const moments = (start, end, most) => {
    const step = STEPS.find((each) => (end - start) / each <= most) ?? STEPS.at(-1);
    const found = [];
    for (let number = Math.ceil(start / step - 1e-9); number * step <= end + 1e-9; number++) found.push(number * step);
    return [found, step < 0.1 ? 2 : step < 1 ? 1 : 0];
  };

  const drawRaster = (pen) => {
    const raster = lanes.raster;
    if (!raster) return;
    const columns = raster.difference.length;
    const [x0, x1] = [pixel(raster.start), pixel(raster.start + columns * raster.step)];
    raster.pictures.forEach((picture, side) => {
      const name = ["yaxis", "yaxis3"][side];
      const high = axis(name)._length / picture.height;
      pen.imageSmoothingEnabled = (x1 - x0) / columns < 1; // squeezed, until the kernel has sent wider columns
      lane(pen, name, () => {
        for (let row = 0; row < picture.height; row++) {
          pen.drawImage(picture, 0, row, columns, 1, x0, axis(name)._offset + row * high, x1 - x0, high - 1);
        }
      });
    });
    lane(pen, "yaxis4", () => {
      pen.beginPath();
      for (let column = 0; column < columns; column++) {
        const y = down("yaxis4", Math.log10(Math.min(Math.max(raster.difference[column], 1e-7), 1e4)));
        pen.lineTo(pixel(raster.start + column * raster.step), y);
        pen.lineTo(pixel(raster.start + (column + 1) * raster.step), y);
      }
      [pen.strokeStyle, pen.lineWidth] = [look().line, 1.2];
      pen.stroke();
    });
  };

  const drawTicks = (pen) => {
    const ticks = lanes.ticks;
    lane(pen, "yaxis2", () => {
      for (const style of look().flips) {
        const half = style.real ? 0.42 : 0.3;
        const [low, high] = [down("yaxis2", style.row + half), down("yaxis2", style.row - half)];
        pen.beginPath();
        for (let at = 0; at < ticks.time.length; at++) {
          if (Boolean(ticks.near[at]) === style.real) continue;
          const x = pixel(ticks.time[at]);
          pen.moveTo(x, low);
          pen.lineTo(x, high);
        }
        [pen.strokeStyle, pen.lineWidth] = [style.color, style.real ? 2.2 : 1.4];
        pen.stroke();
      }
    });
  };

  const drawRegions = (pen) => {
    const regions = lanes.regions;
    lane(pen, "yaxis5", () => {
      for (let at = 0; at < regions.start.length; at++) {
        const style = look().errors[regions.row[at]];
        const [x0, x1] = [pixel(regions.start[at]), pixel(regions.end[at])];
        const [top, bottom] = [down("yaxis5", regions.row[at] - 0.38), down("yaxis5", regions.row[at] + 0.38)];
        const box = [x0, top, Math.max(x1 - x0, 1), bottom - top];
        pen.fillStyle = style.color;
        pen.fillRect(...box);
        if (regions.hatched[at]) {
          pen.fillStyle = patterned(style.hatch);
          pen.fillRect(...box);
        }
      }
    });
  };

  const drawLanes = () => {
    const [top, bottom] = [axis("yaxis")._offset, floor()];
    const pen = begin(lanesCanvas, left() - 40, top, width() + 54, bottom - top + 24);
    const { flip } = model.get("detail");
    const marked = dragged?.marks ? [dragged.from, dragged.to].sort((a, b) => a - b) : region;
    if (marked) {
      clipped(pen, left(), top, width(), bottom - top, () => {
        const [x0, x1] = marked.map(pixel);
        [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = [look().selection, look().muted, 1];
        pen.fillRect(x0, top, x1 - x0, bottom - top);
        pen.strokeRect(x0, top, x1 - x0, bottom - top);
      });
    }
    const [times, decimals] = moments(...view, 12);
    [pen.strokeStyle, pen.lineWidth] = [look().grid, 1];
    pen.beginPath();
    for (const name of LANES) {
      for (const time of times) {
        pen.moveTo(pixel(time), axis(name)._offset);
        pen.lineTo(pixel(time), axis(name)._offset + axis(name)._length);
      }
    }
    pen.stroke();
    if (lanes && lanes.scene === look().scene) {
      drawRaster(pen);
      drawTicks(pen);
      drawRegions(pen);
    }
    if (flip !== null && flip !== undefined) {
      clipped(pen, left(), top, width(), bottom - top, () => {
        [pen.strokeStyle, pen.lineWidth] = [look().bound, 1.4];
        pen.beginPath();
        pen.moveTo(pixel(flip), top);
        pen.lineTo(pixel(flip), bottom);
        pen.stroke();
      });
    }
    [pen.strokeStyle, pen.fillStyle, pen.textAlign, pen.lineWidth] = [look().frame, look().text, "center", 1];
    pen.beginPath();
    for (const time of times) {
      pen.moveTo(pixel(time), bottom);
      pen.lineTo(pixel(time), bottom + 4);
      const words = clock(time, decimals, look().duration >= 3600);
      const over = pixel(time) + pen.measureText(words).width / 2 - left() - width() - 12; // the figure ends there
      pen.fillText(words, pixel(time) - Math.max(over, 0), bottom + 17);
    }
    pen.stroke();
    Object.assign(hand.style, { left: `${left()}px`, top: `${top}px`, width: `${width()}px`, height: `${bottom - top}px` });
  };

  const drawScores = (pen, scores) => {
    const [x, y] = [axis("xaxis6"), axis("yaxis10")];
    const sides = [numbers(scores.baseline, "f8"), numbers(scores.candidate, "f8")];
    const zero = y._offset + y.l2p(0);
    sides.forEach((values, side) => {
      values.forEach((value, number) => {
        if (!(value > 0)) return;
        const [x0, x1] = side ? [number + 0.02, number + 0.38] : [number - 0.38, number - 0.02];
        const box = [x._offset + x.l2p(x0), y._offset + y.l2p(Math.min(value, 1)), x.l2p(x1) - x.l2p(x0)];
        box.push(zero - box[1]);
        pen.fillStyle = look().bars[side];
        pen.fillRect(...box);
        if (!side) return;
        pen.fillStyle = patterned("/");
        pen.fillRect(...box);
      });
    });
  };

  const drawSound = (pen, packet, flip) => {
    const [x, y] = [axis("xaxis5"), axis("yaxis9")];
    const at = (seconds) => x._offset + ((seconds - packet.start) / packet.duration) * x._length;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(sound.picture, x._offset, y._offset, x._length, y._length);
    if (flip !== null) {
      pen.save();
      pen.setLineDash([3, 3]);
      [pen.strokeStyle, pen.lineWidth] = ["#ffffff", 1.5];
      pen.beginPath();
      pen.moveTo(at(flip), y._offset);
      pen.lineTo(at(flip), y._offset + y._length);
      pen.stroke();
      pen.restore();
    }
    [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = [look().text, look().frame, 1];
    const [times, decimals] = moments(packet.start, packet.start + packet.duration, 6);
    pen.textAlign = "center";
    pen.beginPath();
    for (const time of times) {
      pen.moveTo(at(time), y._offset + y._length);
      pen.lineTo(at(time), y._offset + y._length + 4);
      pen.fillText(clock(time, decimals), at(time), y._offset + y._length + 16);
    }
    pen.stroke();
    pen.textAlign = "right";
    for (let kilo = 0; 1000 * kilo <= packet.highest; kilo += 2) {
      const high = y._offset + y._length * (1 - (1000 * kilo) / packet.highest);
      pen.fillText(kilo === 8 ? "8 kHz" : String(kilo), x._offset - 5, high + 4);
    }
  };

  const drawDetail = () => {
    const [x, y] = [axis("xaxis6"), axis("yaxis10")];
    const [start, end] = [x._offset, axis("xaxis5")._offset + axis("xaxis5")._length];
    const pen = begin(detailCanvas, start, y._offset - 6, end - start + 14, y._length + 28);
    const { scores, sound: packet, flip } = model.get("detail");
    if (scores) drawScores(pen, scores);
    else {
      [pen.fillStyle, pen.textAlign, pen.font] = [look().text, "center", `12px ${look().font}`];
      pen.fillText(look().hint[0], x._offset + x._length / 2, y._offset + y._length / 2 - 7);
      pen.fillText(look().hint[1], x._offset + x._length / 2, y._offset + y._length / 2 + 9);
    }
    if (packet && sound) drawSound(pen, packet, flip ?? null);
    Object.assign(detailHand.style, { left: `${x._offset}px`, top: `${y._offset}px`, width: `${x._length}px`, height: `${y._length}px` });
  };

  const draw = () => {
    drawing = 0;
    if (!gd?._fullLayout?.xaxis?._length || !gd.isConnected || !view) return;
    drawLanes();
    drawDetail();
    // for whoever waits for what is on the screen: tests, benchmarks
    const { flip } = model.get("detail");
    const isSharp = lanes?.scene === look().scene && !waiting && !wanted;
    Object.assign(lanesCanvas.dataset, { view: view.join(), marked: (region ?? []).join(), sharp: isSharp });
    Object.assign(detailCanvas.dataset, { flip: flip ?? "", sound: sound?.start ?? "" });
  };
  const redraw = () => { drawing ||= requestAnimationFrame(draw); };

  // -- what is in view -----------------------------------------------------------------------

  const ask = () => {
    if (waiting && performance.now() - waiting < PATIENCE) {
      wanted = true;
      return;
    }
    waiting = performance.now();
    const serial = (model.get("wish").serial ?? 0) + 1;
    model.set("wish", { start: view[0], end: view[1], width: width(), serial, scene: look().scene });
    model.save_changes();
  };

  // Plotly's own axis follows without a redraw: the player's lines read it, and so does its next drawing.
  const follow = () => {
    const range = view.map((seconds) => EPOCH + 1000 * seconds);
    gd.layout.xaxis.range = [...range];
    axis("xaxis").range = [...range];
    axis("xaxis").setScale();
  };

  const show = (start, end) => {
    const whole = look().duration;
    const span = Math.min(Math.max(end - start, Math.min(NARROWEST, whole)), whole);
    const from = Math.min(Math.max(start, 0), whole - span);
    if (view && view[0] === from && view[1] === from + span) return;
    view = [from, from + span];
    follow();
    redraw();
    ask();
  };

  const send = (touch) => {
    const serial = (model.get("touch").serial ?? 0) + 1;
    model.set("touch", { ...touch, serial, scene: look().scene });
    model.save_changes();
  };

  // -- the mouse -----------------------------------------------------------------------------

  const place = (event) => {
    const corner = gd.getBoundingClientRect();
    return [event.clientX - corner.left, event.clientY - corner.top];
  };

  // The mark that the mouse means: a tick of the flips, or a stretch of the output.
  const meant = (x, y) => {
    if (!lanes) return null;
    const name = LANES.find((each) => y >= axis(each)._offset - 4 && y <= axis(each)._offset + axis(each)._length + 4);
    let best = null;
    let least = REACH;
    if (name === "yaxis2") {
      const ticks = lanes.ticks;
      const row = axis(name).p2l(y - axis(name)._offset);
      for (let at = 0; at < ticks.time.length; at++) {
        const away = Math.abs(row - look().flips[ticks.near[at] ? 0 : 1].row) > 0.6 ? 5 : 0; // the other row
        const distance = Math.abs(pixel(ticks.time[at]) - x) + away;
        if (distance < least) [best, least] = [{ name, at }, distance];
      }
    } else if (name === "yaxis5") {
      const regions = lanes.regions;
      const row = axis(name).p2l(y - axis(name)._offset);
      for (let at = 0; at < regions.start.length; at++) {
        if (Math.abs(regions.row[at] - row) > 0.5) continue;
        const distance = Math.max(pixel(regions.start[at]) - x, x - pixel(regions.end[at]), 0);
        if (distance < Math.min(least, 4)) [best, least] = [{ name, at }, distance];
      }
    } else if (name && lanes.raster) {
      const at = Math.floor((second(x) - lanes.raster.start) / lanes.raster.step);
      if (at >= 0 && at < lanes.raster.difference.length) best = { name, at };
    }
    return best;
  };

  const words = ({ name, at }, y) => {
    const classes = look().classes;
    if (name === "yaxis2") {
      const ticks = lanes.ticks;
      const [from, to] = [ticks.from[at], ticks.to[at]].map((each) => classes[each] ?? "NaN"); // -1: no numbers
      const more = ticks.flips[at] > 1 ? `worst of ${ticks.flips[at]} here: zoom in` : "";
      const kind = look().flips[ticks.near[at] ? 0 : 1].name;
      return [`${from} → ${to} · ${kind}`, `${clock(ticks.time[at])} · margin ${short(ticks.margin[at])} nats`, more];
    }
    if (name === "yaxis5") {
      const regions = lanes.regions;
      const [start, end] = [regions.start[at], regions.end[at]];
      const more = regions.turns[at] > 1 ? ` · ${regions.turns[at]} turns, zoom in` : "";
      return [regions.text[at], `${clock(start)} – ${clock(end)} · ${(end - start).toFixed(2)} s${more}`];
    }
    const raster = lanes.raster;
    const time = clock(raster.start + at * raster.step);
    if (name === "yaxis4") {
      const best = `baseline ${classes[raster.from[at]]}, candidate ${classes[raster.to[at]]}`;
      return [time, best, `largest difference ${short(raster.difference[at])} nats`];
    }
    const row = Math.min(Math.max(Math.round(axis(name).p2l(y - axis(name)._offset)), 0), classes.length - 1);
    const share = raster.levels.map((levels) => `${Math.round(levels[at * classes.length + row] / 2.55)} %`);
    return [`${time} · ${classes[row]}`, `baseline ${share[0]}, candidate ${share[1]}`];
  };

  const tell = (lines, x, y) => {
    tip.style.display = lines ? "block" : "none";
    if (!lines) return;
    tip.replaceChildren();
    lines.filter(Boolean).forEach((line, number) => {
      const part = document.createElement(number ? "div" : "b");
      part.textContent = line;
      tip.append(part);
    });
    const over = x + tip.offsetWidth + 24 > gd.offsetWidth;
    tip.style.left = `${over ? x - tip.offsetWidth - 12 : x + 12}px`;
    tip.style.top = `${y + 14}px`;
  };

  const move = (event) => {
    const [x, y] = place(event);
    if (!dragged) {
      const found = meant(x, y);
      hand.classList.toggle("wb-on-mark", Boolean(found) && (found.name === "yaxis2" || found.name === "yaxis5"));
      tell(found && words(found, y), x, y);
      return;
    }
    if (Math.abs(x - dragged.x) > CLICK) dragged.moved = true;
    if (!dragged.moved) return;
    tell(null);
    if (dragged.selects) {
      dragged.marks = true;
      dragged.to = Math.min(Math.max(second(x), view[0]), view[1]);
      redraw();
    } else {
      hand.classList.add("wb-dragged");
      const shift = ((dragged.x - x) / width()) * (dragged.view[1] - dragged.view[0]);
      show(dragged.view[0] + shift, dragged.view[1] + shift);
    }
  };

  const release = (event) => {
    if (!dragged) return;
    move(event);
    const { moved, marks, from, to } = dragged;
    dragged = null;
    hand.classList.remove("wb-dragged");
    if (marks && from !== to) {
      region = [Math.min(from, to), Math.max(from, to)]; // shown at once
      send({ kind: "mark", start: region[0], end: region[1] });
      redraw();
    } else if (!moved) {
      const found = meant(...place(event));
      if (found?.name === "yaxis2") send({ kind: "flip", row: lanes.ticks.row[found.at] });
      if (found?.name === "yaxis5") send({ kind: "region", start: lanes.regions.start[found.at], end: lanes.regions.end[found.at] });
    }
  };

  hand.addEventListener("pointerdown", (event) => {
    if (event.button || !view) return;
    event.preventDefault();
    hand.setPointerCapture(event.pointerId);
    const [x] = place(event);
    dragged = { x, view, from: second(x), to: second(x), moved: false, selects: model.get("mode") === "select" };
  });
  hand.addEventListener("pointermove", move);
  hand.addEventListener("pointerup", release);
  hand.addEventListener("pointercancel", () => { dragged = null; redraw(); });
  hand.addEventListener("pointerleave", () => tell(null));
  hand.addEventListener("dblclick", () => show(0, look().duration));
  hand.addEventListener("wheel", (event) => {
    if (!view) return;
    event.preventDefault();
    event.stopPropagation();
    tell(null);
    const span = view[1] - view[0];
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const shift = (event.deltaX / width()) * span;
      show(view[0] + shift, view[1] + shift);
      return;
    }
    const factor = Math.exp(Math.min(Math.max(event.deltaY, -200), 200) / 400);
    const middle = second(place(event)[0]);
    show(middle - (middle - view[0]) * factor, middle + (view[1] - middle) * factor);
  }, { passive: false });

  detailHand.addEventListener("pointermove", (event) => {
    const scores = model.get("detail").scores;
    const [x, y] = place(event);
    const across = axis("xaxis6");
    const at = Math.round(across.p2l(x - across._offset));
    if (!scores || at < 0 || at >= look().classes.length) return tell(null);
    const lines = ["baseline", "candidate"].map((side) => {
      const value = numbers(scores[side], "f8")[at];
      return `${side}: ${Number.isNaN(value) ? "NaN" : `${value.toFixed(4)} (${short(Math.log(value))} nats)`}`;
    });
    tell([look().classes[at], ...lines], x, y);
  });
  detailHand.addEventListener("pointerleave", () => tell(null));

  // -- what the kernel says ------------------------------------------------------------------

  const onLanes = () => {
    const packet = model.get("lanes");
    waiting = 0;
    if (!packet.ticks) return;
    if (!view || packet.moves) view = [...packet.view];
    lanes = unpack(packet, look());
    if (!gd?._fullLayout?.xaxis) return;
    follow();
    redraw();
    if (wanted) {
      wanted = false;
      ask();
    }
  };
  const onDetail = () => {
    const { sound: packet, marked } = model.get("detail");
    region = marked ?? null;
    sound = null;
    if (packet) {
      const pixels = new Uint8ClampedArray(numbers(packet.pixels, "u1"));
      const image = new ImageData(pixels, packet.width);
      sound = { picture: sheet(image.width, image.height), start: packet.start };
      sound.picture.getContext("2d").putImageData(image, 0, 0);
    }
    redraw();
  };
  const onMode = () => hand.classList.toggle("wb-marking", model.get("mode") === "select");

  // A range that someone else gave plotly's axis: a script, the kernel.
  const adopt = (change) => {
    const range = change?.["xaxis.range"] ?? (change && "xaxis.range[0]" in change ? gd._fullLayout.xaxis.range : null);
    if (!range || !view) return;
    const [start, end] = range.map((value) => (axis("xaxis").r2l(value) - EPOCH) / 1000);
    if (Math.abs(start - view[0]) + Math.abs(end - view[1]) > 1e-6) show(start, end);
  };

  const attach = () => {
    const found = el.closest(".wb-screen")?.querySelector(".js-plotly-plot");
    if (!found?._fullLayout?.yaxis10?._length || found === gd) return;
    gd = found;
    gd.append(lanesCanvas, detailCanvas, hand, detailHand, tip);
    gd.on("plotly_afterplot", redraw);
    gd.on("plotly_relayout", adopt);
    onMode();
    onDetail();
    onLanes();
    if (view) ask(); // the kernel did not know how wide it is
  };
  model.on("change:lanes", onLanes);
  model.on("change:look", redraw);
  model.on("change:detail", onDetail);
  model.on("change:mode", onMode);
  const search = setInterval(() => {
    attach(); // the figure is drawn later than this, and may be drawn anew
    if (gd && sharpness && sharpness !== (window.devicePixelRatio || 1)) redraw(); // the page was zoomed
  }, 300);
  attach();
  return () => {
    clearInterval(search);
    cancelAnimationFrame(drawing);
    for (const part of [lanesCanvas, detailCanvas, hand, detailHand, tip]) part.remove();
  };
}

export default { render };
