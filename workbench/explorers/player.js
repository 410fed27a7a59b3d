// The player under a timeline: plays clips, and draws two lines over the figure of the same screen.
// Neither line needs the kernel.

const EPOCH = 946684800000; // ms, where recordings begin on the time axis (workbench/plots/lanes.py)
const LAST_LANE = "yaxis5"; // the lines end at the floor of the errors lane

function clock(seconds) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  const pad = (value, digits) => String(value).padStart(digits, "0");
  const hours = Math.floor(ms / 3600000);
  const minutes = Math.floor(ms / 60000) % 60;
  const head = hours ? `${hours}:${pad(minutes, 2)}` : `${minutes}`;
  return `${head}:${pad(Math.floor(ms / 1000) % 60, 2)}.${pad(ms % 1000, 3)}`;
}

function lanes(figure) {
  const layout = figure?._fullLayout;
  const named = layout?.meta?.lanes; // first and last lane, on screens that have panels above them
  const floor = layout?.[named ? named[1] : LAST_LANE];
  if (!layout?.xaxis?._length || !floor) return null;
  const left = layout.xaxis._offset;
  return { axis: layout.xaxis, left, right: left + layout.xaxis._length, top: named ? layout[named[0]]._offset : layout.margin.t, bottom: floor._offset + floor._length };
}

function line(figure, kind) {
  let element = figure.querySelector(`:scope > .wb-line-${kind}`);
  if (!element) {
    element = document.createElement("div");
    element.className = `wb-line wb-line-${kind}`;
    element.append(document.createElement("span"));
    figure.append(element);
  }
  return element;
}

function place(figure, kind, pixel, seconds) {
  const area = lanes(figure);
  const element = line(figure, kind);
  const seen = area && pixel >= area.left && pixel <= area.right;
  element.style.display = seen ? "block" : "none";
  if (!seen) return;
  element.style.transform = `translateX(${pixel}px)`;
  element.style.top = `${area.top}px`;
  element.style.height = `${area.bottom - area.top}px`;
  element.firstChild.textContent = clock(seconds);
  element.classList.toggle("wb-line-flipped", pixel > area.right - 80);
}

function hide(figure, kind) {
  const element = figure.querySelector(`:scope > .wb-line-${kind}`);
  if (element) element.style.display = "none";
}

function followMouse(figure) {
  if (figure.wbFollows) return;
  figure.wbFollows = true;
  figure.addEventListener("mousemove", (event) => {
    const area = lanes(figure);
    const box = figure.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (area && y >= area.top && y <= area.bottom && x >= area.left && x <= area.right) {
      place(figure, "mouse", x, (area.axis.p2l(x - area.left) - EPOCH) / 1000);
    } else {
      hide(figure, "mouse");
    }
  });
  figure.addEventListener("mouseleave", () => hide(figure, "mouse"));
}

function render({ model, el }) {
  el.classList.add("wb-player");
  const button = document.createElement("button");
  button.className = "wb-play";
  button.type = "button";
  const text = document.createElement("span");
  text.className = "wb-selection";
  const audio = document.createElement("audio");
  audio.preload = "auto";
  el.append(button, text, audio);
  let address = null;
  let played = -1;
  let ticking = 0;

  const figure = () => el.closest(".wb-screen")?.querySelector(".js-plotly-plot");
  const describe = () => {
    text.textContent = model.get("text");
    const playing = !audio.paused && !audio.ended;
    button.textContent = playing ? "❚❚" : "▶";
    button.title = playing ? "Pause" : "Play the selection";
    button.setAttribute("aria-label", button.title);
  };
  const load = () => {
    const wav = model.get("wav");
    if (!wav?.byteLength || model.get("serial") === played) return;
    played = model.get("serial");
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(new Blob([wav], { type: "audio/wav" }));
    audio.src = address;
    audio.dataset.start = model.get("start");
    // Browsers forbid sound before the first click on the page; the button still works then.
    audio.play().catch(() => describe());
  };
  const tick = () => {
    const target = figure();
    if (target) {
      const now = model.get("start") + audio.currentTime;
      const area = lanes(target);
      if (area) place(target, "sound", area.left + area.axis.l2p(EPOCH + now * 1000), now);
    }
    if (!audio.paused && !audio.ended) ticking = requestAnimationFrame(tick);
  };
  button.addEventListener("click", () => {
    if (!audio.paused && !audio.ended) audio.pause();
    else if (audio.src && played === model.get("serial") && audio.dataset.text === model.get("text")) audio.play();
    else {
      model.set("request", model.get("request") + 1);
      model.save_changes();
    }
  });
  audio.addEventListener("play", () => {
    audio.dataset.text = model.get("text");
    describe();
    cancelAnimationFrame(ticking);
    tick();
  });
  for (const kind of ["pause", "ended"]) {
    audio.addEventListener(kind, () => {
      describe();
      if (kind === "ended" && figure()) hide(figure(), "sound");
    });
  }
  model.on("change:serial", load);
  model.on("change:text", () => {
    if (!audio.paused) audio.pause();
    describe();
  });
  describe();

  // The figure is drawn later than this; it is looked for until it is there.
  const search = setInterval(() => {
    const found = figure();
    if (found?._fullLayout) {
      followMouse(found);
      clearInterval(search);
    }
  }, 300);
  return () => {
    clearInterval(search);
    cancelAnimationFrame(ticking);
    audio.pause();
    if (address) URL.revokeObjectURL(address);
  };
}

export default { render };
