// A line over the histograms that can be dragged, or moved with the arrow keys. It draws itself without
// waiting for the kernel, and tells it the newest value.

function panel(figure) {
  const layout = figure?._fullLayout;
  const [across, down] = [layout?.xaxis, layout?.yaxis];
  if (!across?._length || !down?._length) return null;
  return { across, left: across._offset, right: across._offset + across._length, top: down._offset, height: down._length };
}

function render({ model, el }) {
  el.classList.add("wb-grip-home");
  const grip = document.createElement("div");
  grip.className = "wb-grip";
  grip.tabIndex = 0;
  grip.setAttribute("role", "slider");
  grip.setAttribute("aria-label", "Threshold");
  grip.title = "Drag the threshold; arrow keys move it, a double click brings it back to equal error rates";
  const label = document.createElement("span");
  grip.append(label);
  let figure = null;
  let waiting = 0;
  let dragging = false;

  const place = () => {
    const area = panel(figure);
    const pixel = area && area.left + area.across.l2p(model.get("value"));
    const seen = area && model.get("shown") && pixel >= area.left - 1 && pixel <= area.right + 1;
    grip.style.display = seen ? "block" : "none";
    if (!seen) return;
    if (grip.parentElement !== figure) figure.append(grip);
    grip.style.transform = `translateX(${pixel}px)`;
    grip.style.top = `${area.top}px`;
    grip.style.height = `${area.height}px`;
    label.textContent = model.get("value").toPrecision(3);
    grip.setAttribute("aria-valuenow", model.get("value"));
    grip.setAttribute("aria-valuemin", model.get("low"));
    grip.setAttribute("aria-valuemax", model.get("high"));
  };
  const tell = (value) => {
    const [low, high] = [model.get("low"), model.get("high")];
    model.set("value", Math.min(Math.max(value, low), high));
    place();
    if (!waiting) {
      waiting = requestAnimationFrame(() => {
        waiting = 0;
        model.save_changes();
      });
    }
  };
  grip.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = true;
    grip.setPointerCapture(event.pointerId);
    grip.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  grip.addEventListener("pointermove", (event) => {
    const area = dragging && panel(figure);
    if (area) tell(area.across.p2l(event.clientX - figure.getBoundingClientRect().left - area.left));
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    grip.addEventListener(kind, () => { dragging = false; });
  }
  grip.addEventListener("dblclick", () => {
    model.set("reset", model.get("reset") + 1);
    model.save_changes();
  });
  grip.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
    if (!steps) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to another cell
    tell(model.get("value") + (steps * (model.get("high") - model.get("low"))) / 200);
  });
  for (const name of ["value", "shown", "low", "high"]) model.on(`change:${name}`, place);

  // The figure is drawn later than this; it is looked for until it is there.
  const search = setInterval(() => {
    const found = el.closest(".wb-screen")?.querySelector(".js-plotly-plot");
    if (!found?._fullLayout || !found.on) return;
    clearInterval(search);
    figure = found;
    figure.on("plotly_afterplot", place);
    figure.on("plotly_relayouting", place);
    place();
  }, 200);
  return () => {
    clearInterval(search);
    cancelAnimationFrame(waiting);
    grip.remove();
  };
}

export default { render };
