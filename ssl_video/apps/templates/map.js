"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const canvas = $("map"), stage = $("stage"), tip = $("tip"), context = canvas.getContext("2d");
const count = data.places.length;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const view = { zoom: 1, x: 0.5, y: 0.5 };
let chosen = -1, only = -1, wanted = "", pictures = true, waiting = false;
const images = new Map();

function uri(n) { return "data:image/jpeg;base64," + data.thumbnails[n]; }
function image(n) {
  if (!(n in data.thumbnails)) return null;
  if (!images.has(n)) { const i = new Image(); i.onload = redraw; i.src = uri(n); images.set(n, i); }
  return images.get(n);
}
function scale() { return 0.84 * Math.min(stage.clientWidth, stage.clientHeight - 56) * view.zoom; }
function place(n) {
  const [x, y] = data.places[n], s = scale();
  return [stage.clientWidth / 2 + (x - view.x) * s, (stage.clientHeight + 44) / 2 + (view.y - y) * s];
}
function shown(n) {
  return (only < 0 || data.labels[n] === only) && (!wanted || data.names[n].toLowerCase().includes(wanted));
}
function colour(n, style) { return data.labels[n] < 0 ? style.getPropertyValue("--dot") : data.colours[data.labels[n]]; }
function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(draw); } }

function draw() {
  waiting = false;
  const ratio = devicePixelRatio || 1, w = stage.clientWidth, h = stage.clientHeight;
  canvas.width = w * ratio; canvas.height = h * ratio;
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const radius = Math.min(7, (count > 2000 ? 2.5 : count > 300 ? 3.5 : 5) * Math.sqrt(view.zoom));
  const taken = [];
  if (chosen >= 0) {
    context.strokeStyle = style.getPropertyValue("--quiet");
    for (const n of data.neighbours[chosen]) {
      context.beginPath(); context.moveTo(...place(chosen)); context.lineTo(...place(n)); context.stroke();
    }
  }
  for (let n = 0; n < count; n++) {
    const [x, y] = place(n);
    if (x < -9 || y < -9 || x > w + 9 || y > h + 9) continue;
    context.globalAlpha = shown(n) ? 1 : 0.15;
    context.fillStyle = colour(n, style);
    context.beginPath(); context.arc(x, y, radius, 0, 7); context.fill();
  }
  context.globalAlpha = 1;
  if (pictures) for (const key of Object.keys(data.thumbnails)) {
    const n = Number(key), [x, y] = place(n);
    if (!shown(n) || x < 0 || y < 0 || x > w || y > h || taken.length > 150) continue;
    if (taken.some(([a, b]) => Math.abs(a - x) < 62 && Math.abs(b - y) < 50)) continue;
    taken.push([x, y]);
    const i = image(n);
    if (!i.complete || !i.naturalWidth) continue;
    const k = Math.min(56 / i.naturalWidth, 42 / i.naturalHeight), a = i.naturalWidth * k, b = i.naturalHeight * k;
    context.fillStyle = colour(n, style);
    context.fillRect(x - a / 2 - 2, y - b / 2 - 2, a + 4, b + 4);
    context.drawImage(i, x - a / 2, y - b / 2, a, b);
  }
  if (chosen >= 0) {
    const [x, y] = place(chosen);
    context.lineWidth = 3; context.strokeStyle = style.getPropertyValue("--mark");
    context.beginPath(); context.arc(x, y, radius + 5, 0, 7); context.stroke(); context.lineWidth = 1;
  }
}

function at(x, y) {
  let best = -1, near = 26 ** 2;
  for (let n = 0; n < count; n++) {
    if (!shown(n)) continue;
    const [a, b] = place(n), d = (a - x) ** 2 + (b - y) ** 2;
    if (d < near) { near = d; best = n; }
  }
  return best;
}
function hover(n, x, y) {
  tip.hidden = n < 0;
  if (n < 0) return;
  tip.textContent = data.names[n] + (data.labels[n] < 0 ? "" : " (" + data.classes[data.labels[n]] + ")");
  if (n in data.thumbnails) { const i = new Image(); i.alt = ""; i.src = uri(n); tip.prepend(i); }
  tip.style.left = Math.max(4, Math.min(x + 14, stage.clientWidth - 190)) + "px";
  tip.style.top = Math.max(4, Math.min(y + 14, stage.clientHeight - 120)) + "px";
}
function row(text, said, number, swatch) {
  const item = document.createElement("li"), button = document.createElement("button");
  const name = document.createElement("span"), small = document.createElement("small");
  button.className = "row"; name.textContent = text; small.textContent = said;
  let picture = document.createElement("i");
  if (swatch) { picture.className = "swatch"; picture.style.background = swatch; }
  else if (number in data.thumbnails) { picture = new Image(); picture.alt = ""; picture.src = uri(number); }
  button.append(picture, name, small); item.append(button);
  return [item, button];
}
function choose(n) {
  chosen = n;
  const [x, y] = place(n);
  if (x < 20 || y < 60 || x > stage.clientWidth - 20 || y > stage.clientHeight - 20) [view.x, view.y] = data.places[n];
  $("name").textContent = data.names[n];
  $("keys").hidden = true;
  $("label").textContent = data.labels[n] < 0 ? "" : data.classes[data.labels[n]];
  const link = data.links[n];  // "" of what is no file by itself
  $("link").hidden = !link;
  if (link) $("link").href = link;
  $("open").hidden = $("near").hidden = false;
  const player = $("player"), picture = $("picture"), here = link && location.protocol === "file:";
  player.hidden = !here;
  picture.hidden = here || !(n in data.thumbnails);
  if (n in data.thumbnails) picture.src = uri(n);
  if (here) { player.src = link; if (!still.matches) player.play().catch(() => {}); }
  $("neighbours").replaceChildren(...data.neighbours[n].map((other, k) => {
    const [item, button] = row(data.names[other], data.cosines[n][k].toFixed(3), other, "");
    button.onclick = () => choose(other);
    return item;
  }));
  redraw();
}
$("player").onerror = () => {
  $("player").hidden = true;
  $("picture").hidden = chosen < 0 || !(chosen in data.thumbnails);
};
function zoom(by, x = stage.clientWidth / 2, y = (stage.clientHeight + 44) / 2) {
  const s = scale(), before = view.zoom;
  view.zoom = Math.min(60, Math.max(0.6, before * by));
  const k = 1 / s - 1 / scale();
  view.x += (x - stage.clientWidth / 2) * k;
  view.y -= (y - (stage.clientHeight + 44) / 2) * k;
  redraw();
}
function all() { Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 }); redraw(); }
function step(dx, dy) {
  if (chosen < 0) {
    let first = 0;
    for (let n = 0; n < count; n++) if (shown(n)) { first = n; break; }
    return choose(first);
  }
  let best = -1, least = Infinity;
  const [a, b] = data.places[chosen];
  for (let n = 0; n < count; n++) {
    if (n === chosen || !shown(n)) continue;
    const x = data.places[n][0] - a, y = data.places[n][1] - b, along = x * dx + y * dy, across = Math.abs(x * dy - y * dx);
    if (along > 1e-6 && across <= 1.5 * along && along + 2 * across < least) { least = along + 2 * across; best = n; }
  }
  if (best >= 0) choose(best);
}

const fingers = new Map();
let moved = 0, apart = 0;
canvas.onpointerdown = (e) => { canvas.setPointerCapture(e.pointerId); fingers.set(e.pointerId, [e.offsetX, e.offsetY]); moved = 0; apart = 0; };
canvas.onpointermove = (e) => {
  const before = fingers.get(e.pointerId);
  if (!before) return hover(at(e.offsetX, e.offsetY), e.offsetX, e.offsetY);
  fingers.set(e.pointerId, [e.offsetX, e.offsetY]);
  moved += Math.abs(e.offsetX - before[0]) + Math.abs(e.offsetY - before[1]);
  if (fingers.size === 2) {
    const [[a, b], [c, d]] = [...fingers.values()], now = Math.hypot(a - c, b - d);
    if (apart) zoom(now / apart, (a + c) / 2, (b + d) / 2);
    apart = now;
  } else if (moved > 6) {
    view.x -= (e.offsetX - before[0]) / scale(); view.y += (e.offsetY - before[1]) / scale();
    hover(-1); redraw();
  }
};
canvas.onpointerup = canvas.onpointercancel = (e) => {
  const one = fingers.size === 1 && moved <= 6 && e.type === "pointerup";
  fingers.delete(e.pointerId);
  const n = one ? at(e.offsetX, e.offsetY) : -1;
  if (n >= 0) choose(n);
};
canvas.onpointerleave = () => hover(-1);
canvas.ondblclick = () => { if (chosen >= 0) $("link").click(); };
canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY / 400), e.offsetX, e.offsetY); }, { passive: false });
canvas.onkeydown = (e) => {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (ways[e.key]) step(...ways[e.key]);
  else if (e.key === "+" || e.key === "=") zoom(1.4);
  else if (e.key === "-") zoom(1 / 1.4);
  else if (e.key === "0") all();
  else if (e.key === "Enter" && chosen >= 0) $("link").click();
  else return;
  e.preventDefault();
};
$("in").onclick = () => zoom(1.4);
$("out").onclick = () => zoom(1 / 1.4);
$("all").onclick = all;
$("pictures").onclick = () => { pictures = !pictures; $("pictures").setAttribute("aria-pressed", pictures); redraw(); };
$("find").oninput = () => { wanted = $("find").value.toLowerCase(); redraw(); };
$("find").onkeydown = (e) => {
  if (e.key !== "Enter") return;
  for (let n = 0; n < count; n++) if (shown(n)) { choose(n); canvas.focus(); break; }
};
if (data.classes.length) {
  $("legend").hidden = false;
  const sizes = data.classes.map(() => 0);
  for (const n of data.labels) if (n >= 0) sizes[n]++;
  const buttons = [];
  $("classes").append(...data.classes.map((name, n) => {
    const [item, button] = row(name, sizes[n], -1, data.colours[n]);
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      only = only === n ? -1 : n;
      buttons.forEach((b, k) => b.setAttribute("aria-pressed", k === only));
      redraw();
    };
    buttons.push(button);
    return item;
  }));
}
new ResizeObserver(redraw).observe(stage);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
redraw();
