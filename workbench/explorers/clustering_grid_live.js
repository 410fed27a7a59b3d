// The line through the dendrogram, and clicks on pictures: neither makes plotly draw anything.

const CLICK = 4; // px that the mouse may move between down and up

function box(figure, x, y) {
  const across = figure?._fullLayout?.[x];
  const down = figure?._fullLayout?.[y];
  return across?._length && down?._length ? { across, down } : null;
}

function render({ model, el }) {
  const figure = () => el.closest(".wb-screen")?.querySelector(".js-plotly-plot");
  const line = document.createElement("div");
  line.className = "wb-cut";
  line.tabIndex = -1;
  line.title = "Drag to move the threshold";
  const label = document.createElement("span");
  line.append(label);
  let shown = null; // while it is being dragged, where the mouse is

  const place = () => {
    const area = box(figure(), "xaxis2", "yaxis4");
    if (!area) return;
    const value = shown ?? model.get("value");
    const at = Math.min(Math.max(area.down.l2p(value), 0), area.down._length);
    line.style.left = `${area.across._offset}px`;
    line.style.width = `${area.across._length}px`;
    line.style.top = `${area.down._offset + at - 5}px`;
    label.textContent = value.toFixed(3);
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
  model.on("change:value", place);

  // The figure is drawn later than this; it is looked for until it is there.
  const search = setInterval(() => {
    const gd = figure();
    if (!gd?._fullLayout) return;
    clearInterval(search);
    gd.append(line);
    gd.addEventListener("pointerdown", press, true);
    gd.on("plotly_afterplot", place);
    place();
  }, 300);
  return () => {
    clearInterval(search);
    window.removeEventListener("pointerup", release, true);
    line.remove();
  };
}

export default { render };
