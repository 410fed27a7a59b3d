// What follows the sliders, drawn into the figure without plotly drawing it again; clicks on it; the line.

const CLICK = 4; // px that the mouse may move between down and up
const REST = 250; // ms without a newer answer, after which an exact one is asked for
const LANES = ["reference", "hypothesis", "errors"];
const SVG = "http://www.w3.org/2000/svg";
const XLINK = "http://www.w3.org/1999/xlink"; // where plotly writes addresses

function box(figure, x, y) {
  const across = figure?._fullLayout?.[x];
  const down = figure?._fullLayout?.[y];
  return across?._length && down?._length ? { across, down } : null;
}

// The newest pictures, and where the lanes lie. Plotly keeps them: its own copies are changed, too, so
// that whatever it draws next, because of a zoom or a selection, is what is shown already.
function drawPictures(gd, model) {
  const nodes = gd.querySelectorAll(".layer-above > .imagelayer > image");
  const time = gd._fullLayout.xaxis;
  const [start, width] = model.get("view");
  gd.layout.images.forEach((image, number) => {
    const node = nodes[number];
    const full = gd._fullLayout.images[number];
    const source = model.get(image.name);
    if (!node || !full || !source) return;
    if (LANES.includes(image.name)) {
      image.x = full.x = start;
      image.sizex = full.sizex = width;
      node.setAttribute("x", time._offset + time.r2p(start));
      node.setAttribute("width", Math.abs(time.l2p(width) - time.l2p(0)));
    }
    image.source = full.source = source;
    if (node._imgSrc === source) return;
    node._imgSrc = source; // how plotly knows what an image shows
    node.setAttribute("decoding", "sync"); // large ones would blink
    node.setAttributeNS(XLINK, "href", source);
  });
}

// Names beside the rows of the hypothesis, in the looks of plotly's own beside the errors.
function drawNames(gd, model, names) {
  const area = box(gd, "xaxis", "yaxis2");
  const like = gd.querySelector(".y3tick text");
  if (!area || !like) return;
  names.setAttribute("width", gd._fullLayout.width);
  names.setAttribute("height", gd._fullLayout.height);
  names.replaceChildren(...model.get("names").map(([name, color], row) => {
    const text = document.createElementNS(SVG, "text");
    for (const each of ["x", "y", "text-anchor", "style"]) text.setAttribute(each, like.getAttribute(each) ?? "");
    text.setAttribute("transform", `translate(0,${area.down._offset + area.down.l2p(row)})`);
    const square = document.createElementNS(SVG, "tspan");
    square.style.fill = color;
    square.textContent = "■";
    text.append(`${name} `, square);
    return text;
  }));
}

function render({ model, el }) {
  const figure = () => el.closest(".wb-screen")?.querySelector(".js-plotly-plot");
  const line = document.createElement("div");
  line.className = "wb-cut";
  line.tabIndex = -1;
  line.title = "Drag to move the threshold";
  const label = document.createElement("span");
  line.append(label);
  const names = document.createElementNS(SVG, "svg");
  names.setAttribute("class", "wb-names");
  names.style.cssText = "position: absolute; left: 0; top: 0; pointer-events: none;";
  let shown = null; // while it is being dragged, where the mouse is

  const place = () => {
    const area = box(figure(), "xaxis2", "yaxis4");
    if (!area) return;
    const value = shown ?? model.get("value");
    const at = Math.min(Math.max(area.down.l2p(value), 0), area.down._length);
    line.style.left = `${area.across._offset}px`;
    line.style.width = `${area.across._length}px`;
    line.style.top = `${area.down._offset + at - 5}px`;
    label.textContent = value.toFixed(3).replace("-", "\u2212"); // as the sliders write it
  };

  const draw = () => {
    const gd = figure();
    if (!gd?._fullLayout) return;
    place();
    drawPictures(gd, model);
    drawNames(gd, model, names);
    gd.dataset.answer = model.get("answer");
  };

  const drag = (event) => {
    const gd = figure();
    const area = box(gd, "xaxis2", "yaxis4");
    if (!area) return;
    const top = gd.getBoundingClientRect().top + area.down._offset;
    const [low, high] = model.get("limits");
    const value = Math.min(Math.max(area.down.p2l(event.clientY - top), low), high);
    shown = Math.round(value / model.get("step")) * model.get("step");
    place();
    if (shown !== model.get("value")) {
      model.set("value", shown);
      model.save_changes(); // newer values replace those that wait
    }
  };
  line.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    event.stopPropagation();
    line.setPointerCapture(event.pointerId);
    shown = model.get("value");
    line.addEventListener("pointermove", drag);
  });
  line.addEventListener("pointerup", () => {
    line.removeEventListener("pointermove", drag);
    shown = null;
    place();
  });

  let down = null;
  const press = (event) => { down = [event.clientX, event.clientY]; };
  const release = (event) => {
    const gd = figure();
    if (!down || !gd || !gd.contains(event.target) && !event.target.closest?.(".dragcover")) return;
    const [dx, dy] = [event.clientX - down[0], event.clientY - down[1]];
    down = null;
    if (Math.hypot(dx, dy) > CLICK) return;
    const corner = gd.getBoundingClientRect();
    for (const [name, x, y] of model.get("areas")) {
      const area = box(gd, x, y);
      if (!area) continue;
      const px = event.clientX - corner.left - area.across._offset;
      const py = event.clientY - corner.top - area.down._offset;
      if (px < 0 || py < 0 || px > area.across._length || py > area.down._length) continue;
      const serial = (model.get("touch").serial ?? 0) + 1;
      model.set("touch", { name, x: area.across.p2l(px), y: area.down.p2l(py), serial });
      model.save_changes();
      return;
    }
  };
  window.addEventListener("pointerup", release, true);
  // Everything of one answer comes in one message. Whoever waits for plotly to have drawn hears of it, too.
  const answer = () => figure()?.emit?.("plotly_afterplot");
  model.on("change:answer", answer);
  model.on("change:value", place);
  let resting = null;
  const settle = () => {
    clearTimeout(resting);
    if (model.get("is_final")) return;
    resting = setTimeout(() => {
      model.set("rest", model.get("answer"));
      model.save_changes();
    }, REST);
  };
  model.on("change:answer", settle);
  model.set("tells_rest", true);
  model.save_changes();

  // The figure is drawn later than this; it is looked for until it is there.
  const search = setInterval(() => {
    const gd = figure();
    if (!gd?._fullLayout) return;
    clearInterval(search);
    gd.append(names, line);
    gd.addEventListener("pointerdown", press, true);
    gd.on("plotly_afterplot", draw);
    draw();
  }, 300);
  return () => {
    clearInterval(search);
    window.removeEventListener("pointerup", release, true);
    clearTimeout(resting);
    model.off("change:answer", answer);
    model.off("change:value", place);
    model.off("change:answer", settle);
    names.remove();
    line.remove();
  };
}

export default { render };
