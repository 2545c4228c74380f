// Draws the report's charts from the JSON in the page: marks on a canvas, axes and texts as SVG above it.
// Every text is set as textContent, so nothing that a study contains is ever read as HTML.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

// -- numbers and colours ------------------------------------------------------------------------------------

// A number with so many significant digits, as Python's %g writes it.
function short(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) {
    const [number, power] = value.toExponential(digits - 1).split("e");
    return `${+number}e${+power}`;
  }
  return String(+value.toPrecision(digits)).replace("-", "−");
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// From the worst (0) to the best (1); the darker, or on a dark ground the lighter, the better.
function shades() {
  const stops = [0, 1, 2, 3].map((index) => channels(colour(`shade-${index}`)));
  return (place) => {
    const at = Math.min(2, Math.floor(place * 3));
    const mixed = stops[at].map((from, i) => Math.round(from + (stops[at + 1][i] - from) * (place * 3 - at)));
    return `rgb(${mixed.join(",")})`;
  };
}

// -- axes ---------------------------------------------------------------------------------------------------

// Maps values to 0..1. `labels`: categories, whose values are indices. `marks`: the values to label, if there are few.
function axis({ low, high, log = false, labels = null, marks = null, whole = false }) {
  if (labels) {
    const place = (value) => (value + 0.5) / labels.length;
    return { place, labels, ticks: () => labels.map((text, index) => [place(index), text]), minor: () => [] };
  }
  const map = log ? Math.log10 : (value) => value;
  const from = map(low), span = map(high) - from || 1;
  const place = (value) => (map(value) - from) / span;
  const inside = (value) => place(value) > -1e-9 && place(value) < 1 + 1e-9;
  const label = (values) => {
    let digits = 4;
    while (digits < 12 && new Set(values.map((value) => short(value, digits))).size < values.length) digits++;
    return values.map((value) => [place(value), short(value, digits)]);
  };
  const decades = () => {
    const first = Math.floor(from), count = Math.ceil(from + span) - first + 1;
    return Array.from({ length: count }, (_, index) => 10 ** (first + index));
  };
  const ticks = (count) => {
    if (marks) return label(marks.filter(inside));
    if (!log) return label(evenly(low, high, count, whole).filter(inside));
    let found = decades().filter(inside);
    const every = Math.ceil(found.length / Math.max(2, count));
    found = found.filter((_, index) => index % every === 0);
    if (found.length < 2) found = decades().flatMap((power) => [power, 2 * power, 5 * power]).filter(inside);
    return label(found.length < 2 ? [low, high] : found);
  };
  // Unlabelled ticks at 2, 3, ... 9 times each power of ten: they show that the axis is logarithmic.
  const minor = () =>
    log && !marks && span < 4 ? decades().flatMap((power) => [2, 3, 4, 5, 6, 7, 8, 9].map((i) => i * power)).filter(inside).map(place) : [];
  return { place, ticks, minor, low, high };
}

function evenly(low, high, count, whole) {
  const raw = (high - low || 1) / Math.max(1, count), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.65 && (size >= 1 || !whole)) ?? 1;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, i) => +((first + i) * step).toPrecision(12));
}

// Where a value lies: within the axis (0), above (1) or below (-1).
function beyond(value, range) {
  return value > range.high ? 1 : value < range.low ? -1 : 0;
}

function padded(range, by = 0.06) {
  const room = by * (range.high - range.low);
  return { low: range.low - room, high: range.high + room };
}

// -- drawing ------------------------------------------------------------------------------------------------

function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// An empty chart in a figure: canvas, SVG, and the pixel box of its plot.
function plot(holder, { height, left = 52, right = 14, top = 10, bottom = 34, width = null }) {
  holder.querySelector(".plot")?.remove();
  const box = document.createElement("div");
  box.className = "plot";
  holder.append(box);
  const across = width ? Math.max(width, box.clientWidth) : box.clientWidth;
  const inner = document.createElement("div");
  inner.className = "layers";
  inner.style.width = `${across}px`;
  inner.style.height = `${height}px`;
  const canvas = document.createElement("canvas");
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  canvas.width = across * ratio;
  canvas.height = height * ratio;
  const svg = element("svg", { width: across, height, role: "img", "aria-label": holder.dataset.label || "" });
  inner.append(canvas, svg);
  box.append(inner);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.lineJoin = "round";
  return { box, inner, svg, pen, width: across, height, left, top, wide: across - left - right, high: height - top - bottom };
}

function x(chart, place) { return chart.left + place * chart.wide; }
function y(chart, place) { return chart.top + (1 - place) * chart.high; }

function letters(text, limit) {
  const all = [...text];
  return all.length <= limit ? text : `${all.slice(0, limit - 1).join("")}…`;
}

function horizontal(chart, scale, title) {
  const bottom = chart.top + chart.high;
  const count = Math.max(2, Math.floor(chart.wide / 56));
  let shown = scale.ticks(count);
  const room = chart.wide / Math.max(1, shown.length);
  const longest = Math.max(...shown.map(([, text]) => text.length), 1);
  const crowded = longest * 6.5 > room - 6;
  const slanted = crowded && scale.labels;
  if (crowded && !slanted) shown = shown.filter((_, index) => index % Math.ceil((longest * 6.5 + 6) / room) === 0);
  for (const place of scale.minor()) element("line", { x1: x(chart, place), x2: x(chart, place), y1: bottom, y2: bottom + 3, class: "tick" }, chart.svg);
  for (const [place, text] of shown) {
    const at = x(chart, place);
    element("line", { x1: at, x2: at, y1: bottom, y2: bottom + 5, class: "tick" }, chart.svg);
    if (slanted) element("text", { transform: `translate(${at + 3} ${bottom + 14}) rotate(-35)`, class: "end" }, chart.svg, letters(text, 11));
    else element("text", { x: at, y: bottom + 18, class: "middle" }, chart.svg, letters(text, 16));
  }
  element("line", { x1: chart.left, x2: chart.left + chart.wide, y1: bottom, y2: bottom, class: "rule" }, chart.svg);
  if (title) element("text", { x: chart.left + chart.wide, y: chart.height - 2, class: "end title" }, chart.svg, title);
}

function vertical(chart, scale, numbers = true) {
  for (const [place, text] of scale.ticks(Math.max(2, Math.floor(chart.high / 44)))) {
    const at = y(chart, place);
    path(chart.pen, [[chart.left, at], [chart.left + chart.wide, at]], colour("line"), 1); // below the marks
    if (numbers) element("text", { x: chart.left - 8, y: at + 4, class: "end" }, chart.svg, text);
  }
}

function dot(pen, px, py, radius, fill, rim) {
  pen.beginPath();
  pen.arc(px, py, radius, 0, 7);
  pen.fillStyle = fill;
  pen.fill();
  if (rim) { pen.strokeStyle = rim; pen.lineWidth = 0.7; pen.stroke(); }
}

function ring(pen, px, py, fill) {
  pen.beginPath();
  pen.arc(px, py, 7.5, 0, 7);
  pen.strokeStyle = fill;
  pen.lineWidth = 2;
  pen.stroke();
}

// A value beyond the axis: a triangle that points out of the plot.
function arrow(pen, px, py, way, fill, size = 5) {
  pen.beginPath();
  pen.moveTo(px - size, py + way * size * 0.7);
  pen.lineTo(px + size, py + way * size * 0.7);
  pen.lineTo(px, py - way * size * 0.9);
  pen.closePath();
  pen.fillStyle = fill;
  pen.fill();
}

function cross(pen, px, py, stroke, size = 3.2) {
  pen.beginPath();
  pen.moveTo(px - size, py - size); pen.lineTo(px + size, py + size);
  pen.moveTo(px + size, py - size); pen.lineTo(px - size, py + size);
  pen.strokeStyle = stroke;
  pen.lineWidth = 1.5;
  pen.stroke();
}

function path(pen, points, stroke, width, alpha = 1, dash = []) {
  pen.save();
  pen.globalAlpha = alpha;
  pen.strokeStyle = stroke;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  let down = false;
  for (const point of points) {
    if (point === null) { down = false; continue; }
    if (down) pen.lineTo(point[0], point[1]);
    else pen.moveTo(point[0], point[1]);
    down = true;
  }
  pen.stroke();
  pen.restore();
}

// Keeps drawing within the plot.
function within(chart, work) {
  chart.pen.save();
  chart.pen.beginPath();
  chart.pen.rect(chart.left, chart.top, chart.wide, chart.high);
  chart.pen.clip();
  work();
  chart.pen.restore();
}

function legend(holder, entries) {
  holder.querySelector(".legend")?.remove();
  const list = document.createElement("ul");
  list.className = "legend";
  for (const [text, shape, fill] of entries) {
    const item = document.createElement("li");
    const icon = element("svg", { width: shape === "shades" ? 48 : 16, height: 12, "aria-hidden": "true" }, item);
    if (shape === "shades") for (let i = 0; i < 12; i++) element("rect", { x: 4 * i, y: 3, width: 4, height: 6, fill: fill(i / 11) }, icon);
    if (shape === "dot") element("circle", { cx: 8, cy: 6, r: 4, fill }, icon);
    if (shape === "square") element("rect", { x: 4.5, y: 2.5, width: 7, height: 7, fill }, icon);
    if (shape === "ring") element("circle", { cx: 8, cy: 6, r: 4.5, fill: "none", stroke: fill, "stroke-width": 2 }, icon);
    if (shape === "line") element("path", { d: "M1 6H15", stroke: fill, "stroke-width": 2.5 }, icon);
    if (shape === "dash") element("path", { d: "M1 6H15", stroke: fill, "stroke-width": 2.5, "stroke-dasharray": "4 3" }, icon);
    if (shape === "dots") element("path", { d: "M1 6H15", stroke: fill, "stroke-width": 2.5, "stroke-dasharray": "1.5 2.5" }, icon);
    if (shape === "band") element("rect", { x: 1, y: 1, width: 14, height: 10, fill }, icon);
    if (shape === "cross") element("path", { d: "M4.5 2.5l7 7m0-7l-7 7", stroke: fill, "stroke-width": 1.8 }, icon);
    if (shape === "arrow") element("path", { d: "M3.5 9.5h9L8 2z", fill }, icon);
    item.append(text);
    list.append(item);
  }
  holder.prepend(list);
}

// -- what is under the pointer ------------------------------------------------------------------------------

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

function tell(event, title, rows) {
  const head = document.createElement("strong");
  head.textContent = title;
  const body = document.createElement("dl");
  for (const [name, value] of rows) {
    const term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = letters(name, 32);
    said.textContent = letters(value, 40);
    body.append(term, said);
  }
  tip.replaceChildren(head, body);
  tip.hidden = false;
  const size = tip.getBoundingClientRect();
  const left = event.clientX + 14 + size.width > innerWidth ? event.clientX - 14 - size.width : event.clientX + 14;
  tip.style.left = `${Math.max(4, left) + scrollX}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - size.height - 8)) + scrollY}px`;
}

function listen(chart, find) {
  chart.svg.addEventListener("pointermove", (event) => {
    const box = chart.svg.getBoundingClientRect();
    if (!find(event, event.clientX - box.left, event.clientY - box.top)) tip.hidden = true;
  });
  chart.svg.addEventListener("pointerleave", () => { tip.hidden = true; });
}

function tellTrial(event, index) {
  const { number, value, state } = data.trials;
  const rows = [[data.metric, value[index] === null ? "no value" : short(value[index], 5)], ["state", STATES[state[index]]]];
  for (const one of data.further ?? []) rows.push([one.name, short(one.values[index], 5)]);
  for (const one of data.parameters) rows.push([one.short, worded(one, index)]);
  tell(event, `trial ${number[index]}`, rows);
}

const STATES = { C: "complete", P: "pruned", F: "failed", R: "running", W: "waiting" };

function worded(parameter, index) {
  const value = parameter.values[index];
  if (value === null) return "-";
  return parameter.labels ? parameter.labels[value] : short(value);
}

function nearest(points, px, py, reach) {
  let best = null, least = reach * reach;
  for (const point of points) {
    const distance = (point[0] - px) ** 2 + (point[1] - py) ** 2;
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

// -- the charts ---------------------------------------------------------------------------------------------

const draw = {};

draw.history = (holder) => {
  const { number, value, state } = data.trials, range = data.range, best = data.best;
  const seen = [...new Set(state)];
  const blue = colour("blue"), orange = colour("orange"), grey = colour("faint"), ground = colour("card");
  const outside = value.filter((one) => one !== null && beyond(one, range)).length;
  const nothing = value.filter((one, index) => one === null && state[index] === "F").length;
  const entries = [["complete", "dot", blue]];
  if (seen.includes("P")) entries.push(["pruned", "square", grey]);
  if (nothing) entries.push([`failed (${nothing})`, "cross", orange]);
  if (outside) entries.push([`beyond the axis (${outside})`, "arrow", orange]);
  entries.push(["best so far", "line", blue]);
  if (best !== null) entries.push(["best", "ring", orange]);
  legend(holder, entries);
  const chart = plot(holder, { height: 300, bottom: 40 });
  const tall = padded(range), up = axis(tall);
  const last = number[number.length - 1], along = axis({ low: number[0] - 0.6, high: Math.max(last, number[0] + 1) + 0.6, whole: true });
  vertical(chart, up);
  horizontal(chart, along, "trial");
  const radius = value.length > 2000 ? 1.6 : value.length > 400 ? 2.2 : 3.6, points = [];
  const steps = [];
  let so_far = null;
  value.forEach((one, index) => {
    const px = x(chart, along.place(number[index]));
    if (one !== null && state[index] === "C" && (so_far === null || (data.maximize ? one > so_far : one < so_far))) {
      if (so_far !== null) steps.push([px, y(chart, up.place(so_far))]);
      so_far = one;
      steps.push([px, y(chart, up.place(one))]);
    }
    if (one === null) {
      if (state[index] !== "F") return;
      const py = chart.top + chart.high - 6;
      cross(chart.pen, px, py, orange, radius > 3 ? 3.2 : 2.2);
      points.push([px, py, index]);
      return;
    }
    const way = beyond(one, range);
    const py = way ? (way > 0 ? chart.top + 6 : chart.top + chart.high - 6) : y(chart, up.place(one));
    if (way) arrow(chart.pen, px, py, way, orange, radius > 3 ? 5 : 3.5);
    else if (state[index] === "P") { chart.pen.fillStyle = grey; chart.pen.fillRect(px - radius, py - radius, 2 * radius, 2 * radius); }
    else dot(chart.pen, px, py, radius, blue, radius > 3 ? ground : null);
    points.push([px, py, index]);
  });
  if (so_far !== null) steps.push([x(chart, along.place(last)), y(chart, up.place(so_far))]);
  within(chart, () => path(chart.pen, steps, blue, 1.6, 0.75));
  if (best !== null) ring(chart.pen, x(chart, along.place(number[best])), y(chart, up.place(value[best])), orange);
  listen(chart, (event, px, py) => {
    const found = nearest(points, px, py, 24);
    if (found) tellTrial(event, found[2]);
    return found;
  });
};

draw.curves = (holder) => {
  const { band, lines, best, range } = data.curves;
  const blue = colour("blue"), orange = colour("orange");
  const outside = band.low.filter((one) => beyond(one, range)).length + band.high.filter((one) => beyond(one, range)).length;
  const entries = [["smallest to largest", "band", colour("band-wide")], ["middle half", "band", colour("band-narrow")], ["median", "line", blue]];
  if (best) entries.push([`best: trial ${best.trial}`, "line", orange]);
  if (outside) entries.push(["reaches beyond the axis", "arrow", orange]);
  legend(holder, entries);
  const chart = plot(holder, { height: 300, bottom: 40 });
  const up = axis(padded(range)), count = band.step.length;
  const along = axis({ low: 1 - 0.02 * count, high: Math.max(2, band.step[count - 1]) + 0.02 * count, whole: true });
  vertical(chart, up);
  horizontal(chart, along, "validation");
  const at = (step, value) => [x(chart, along.place(step)), y(chart, up.place(value))];
  const fill = (low, high, shade) => {
    const edge = [...band.step.map((step, i) => at(step, high[i])), ...band.step.map((step, i) => at(step, low[i])).reverse()];
    chart.pen.beginPath();
    edge.forEach(([px, py], index) => (index ? chart.pen.lineTo(px, py) : chart.pen.moveTo(px, py)));
    chart.pen.fillStyle = shade;
    chart.pen.fill();
    if (count === 1) chart.pen.fillRect(edge[0][0] - 8, edge[0][1], 16, edge[1][1] - edge[0][1]);
  };
  within(chart, () => {
    fill(band.low, band.high, colour("band-wide"));
    fill(band.quarter, band.three_quarters, colour("band-narrow"));
    for (const line of lines) path(chart.pen, line.map((one, index) => (one === null ? null : at(index + 1, one))), colour("thread"), 0.8, 0.5);
    path(chart.pen, band.step.map((step, i) => at(step, band.median[i])), blue, 1.8);
    if (best) {
      path(chart.pen, best.values.map((one, index) => (one === null ? null : at(index + 1, one))), orange, 2.4);
      if (best.values.length <= 40) best.values.forEach((one, index) => { if (one !== null) dot(chart.pen, ...at(index + 1, one), 2.6, orange); });
    }
  });
  const every = Math.ceil(count / 15);
  band.step.forEach((step, i) => {
    if (i % every) return;
    if (beyond(band.high[i], range) > 0) arrow(chart.pen, at(step, 0)[0], chart.top + 6, 1, orange, 4);
    if (beyond(band.low[i], range) < 0) arrow(chart.pen, at(step, 0)[0], chart.top + chart.high - 6, -1, orange, 4);
  });
  listen(chart, (event, px) => {
    const near = band.step.reduce((a, b, i) => (Math.abs(at(b, 0)[0] - px) < Math.abs(at(band.step[a], 0)[0] - px) ? i : a), 0);
    const rows = [["trials", String(band.trials[near])], ["largest", short(band.high[near])], ["median", short(band.median[near])], ["smallest", short(band.low[near])]];
    if (best) rows.push([`trial ${best.trial} (best)`, short(best.values[band.step[near] - 1])]);
    tell(event, `validation ${band.step[near]}`, rows);
    return true;
  });
};

// The first objective against a further one; the trials of the Pareto front are joined.
draw.front = (holder) => {
  const { value, state } = data.trials, other = data.further[+holder.dataset.of], range = data.range;
  const grey = colour("faint"), orange = colour("orange"), ground = colour("card");
  const shown = value.map((_, index) => index).filter((index) => state[index] === "C" && value[index] !== null && other.values[index] !== null);
  const onFront = new Set(data.front), outside = shown.filter((index) => beyond(value[index], range)).length;
  const entries = [["dominated", "dot", grey], [`Pareto front (${data.front.length})`, "dot", orange]];
  if (outside) entries.push([`beyond the axis (${outside})`, "arrow", orange]);
  legend(holder, entries);
  const chart = plot(holder, { height: 280, bottom: 40, right: 18 });
  const map = other.log ? Math.log10 : (one) => one, back = other.log ? (one) => 10 ** one : (one) => one;
  const room = 0.05 * (map(other.high) - map(other.low));
  const up = axis(padded(range)), along = axis({ low: back(map(other.low) - room), high: back(map(other.high) + room), log: other.log });
  vertical(chart, up);
  horizontal(chart, along, other.name);
  const at = (index) => {
    const way = beyond(value[index], range);
    const py = way ? (way > 0 ? chart.top + 6 : chart.top + chart.high - 6) : y(chart, up.place(value[index]));
    return [x(chart, along.place(other.values[index])), py, index];
  };
  const front = shown.filter((index) => onFront.has(index)).sort((a, b) => other.values[a] - other.values[b]);
  path(chart.pen, front.map(at), orange, 1.4, 0.8);
  const small = shown.length > 1000 ? 1.8 : 3.4;
  for (const index of shown.filter((one) => !onFront.has(one))) {
    const [px, py] = at(index), way = beyond(value[index], range);
    if (way) arrow(chart.pen, px, py, way, orange, 4);
    else dot(chart.pen, px, py, small, grey, small > 3 ? ground : null);
  }
  for (const index of front) dot(chart.pen, ...at(index).slice(0, 2), 4.6, orange, ground);
  listen(chart, (event, px, py) => {
    const found = nearest(shown.map(at), px, py, 20);
    if (found) tellTrial(event, found[2]);
    return found;
  });
};

// Categories are spread by a rank from 0 to 1, so that trials of one category do not cover each other.
function spread(parameter, scale, value, rank) {
  return parameter.labels ? scale.place(value) + ((rank - 0.5) * 0.5) / parameter.labels.length : scale.place(value);
}

function scaleOf(parameter) {
  return axis(parameter);
}

draw.parallel = (holder) => {
  const { value } = data.trials, range = data.range, names = data.parameters;
  const shade = shades(), orange = colour("orange");
  const axes = [...names.map((one) => ({ ...one, scale: scaleOf(one) })), { short: data.metric, values: value, scale: axis(range), isMetric: true }];
  const drawn = value.map((_, index) => index).filter((index) => value[index] !== null && names.every((one) => one.values[index] !== null));
  const goodness = new Map(drawn.map((index) => {
    const place = Math.min(1, Math.max(0, axis(range).place(value[index])));
    return [index, data.maximize ? place : 1 - place];
  }));
  drawn.sort((a, b) => goodness.get(a) - goodness.get(b));
  const outside = drawn.filter((index) => beyond(value[index], range));
  const entries = [["worst to best", "shades", shade], ["the best", "line", orange]];
  if (outside.length) entries.push([`beyond the axis (${outside.length})`, "arrow", orange]);
  legend(holder, entries);
  const chart = plot(holder, { height: 360, left: 64, right: 64, top: 46, bottom: 14, width: 104 * (axes.length - 1) + 128 });
  const columns = axes.map((one, index) => x(chart, index / Math.max(1, axes.length - 1)));
  const places = new Map(drawn.map((index) => [index, axes.map((one) => {
    if (one.isMetric) return Math.min(1, Math.max(0, one.scale.place(one.values[index])));
    return spread(one, one.scale, one.values[index], goodness.get(index));
  })]));
  const chosen = axes.map(() => null);
  const status = document.createElement("p");
  status.className = "status";
  chart.box.after(status);
  holder.querySelectorAll(".status").forEach((old) => { if (old !== status) old.remove(); });

  const paint = () => {
    const pen = chart.pen;
    pen.clearRect(0, 0, chart.width, chart.height);
    const kept = (index) => chosen.every((part, i) => part === null || (places.get(index)[i] >= part[0] && places.get(index)[i] <= part[1]));
    const alpha = drawn.length > 500 ? 0.5 : 0.9;
    const thick = drawn.length > 500 ? 1 : 1.4;
    const selected = drawn.filter(kept);
    if (selected.length < drawn.length) for (const index of drawn) if (!kept(index)) stroke(index, colour("line"), 0.8, 0.5);
    // Of thousands of lines, only the best are opaque: they would hide the rest.
    const faint = selected.length > 1500 ? (good) => 0.04 + 0.6 * good ** 24 : () => alpha;
    for (const index of selected) stroke(index, shade(goodness.get(index)), thick, faint(goodness.get(index)));
    if (data.best !== null && places.has(data.best) && kept(data.best)) stroke(data.best, orange, 2.8, 1);
    status.textContent = chosen.some(Boolean) ? `${selected.length} of ${drawn.length} trials picked; click an axis to undo` : "Drag along an axis to pick trials.";
  };
  const stroke = (index, fill, width, alpha) => {
    const at = places.get(index).map((place, i) => [columns[i], y(chart, place)]);
    const way = beyond(value[index], range);
    if (!way) return path(chart.pen, at, fill, width, alpha);
    path(chart.pen, at.slice(0, -1), fill, width, alpha);
    path(chart.pen, at.slice(-2), fill, width, alpha, [3, 4]);
    return arrow(chart.pen, at.at(-1)[0], at.at(-1)[1] - way * 5, way, orange, 5);
  };
  paint();

  axes.forEach((one, i) => {
    const isLast = i === axes.length - 1, at = columns[i];
    element("line", { x1: at, x2: at, y1: chart.top, y2: chart.top + chart.high, class: "axis" }, chart.svg);
    const parts = wrapped(one.short, 15);
    parts.forEach((text, row) => element("text", { x: at, y: chart.top - 14 - 14 * (parts.length - 1 - row), class: one.isMetric ? "middle strong" : "middle" }, chart.svg, text));
    for (const place of one.scale.minor()) element("line", { x1: at - 3, x2: at, y1: y(chart, place), y2: y(chart, place), class: "tick" }, chart.svg);
    const ticks = one.scale.ticks(6), every = Math.ceil(ticks.length / 16);
    ticks.filter((_, index) => index % every === 0).forEach(([place, text]) => {
      element("line", { x1: at - 5, x2: at, y1: y(chart, place), y2: y(chart, place), class: "tick" }, chart.svg);
      element("text", { x: at + (isLast ? 9 : -9), y: y(chart, place) + 4, class: isLast ? "halo" : "end halo" }, chart.svg, letters(text, 12));
    });
    const brush = element("rect", { x: at - 6, width: 12, y: 0, height: 0, class: "brush" }, chart.svg);
    const grip = element("rect", { x: at - 18, width: 36, y: chart.top - 8, height: chart.high + 16, class: "grip" }, chart.svg);
    let from = null;
    const place = (event) => 1 - (event.clientY - chart.svg.getBoundingClientRect().top - chart.top) / chart.high;
    grip.addEventListener("pointerdown", (event) => { from = place(event); grip.setPointerCapture(event.pointerId); });
    grip.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const to = place(event);
      chosen[i] = Math.abs(to - from) < 0.015 ? null : [Math.min(from, to), Math.max(from, to)];
      brush.setAttribute("y", chosen[i] ? y(chart, chosen[i][1]) : 0);
      brush.setAttribute("height", chosen[i] ? (chosen[i][1] - chosen[i][0]) * chart.high : 0);
      paint();
    });
    grip.addEventListener("pointerup", (event) => {
      if (from !== null && Math.abs(place(event) - from) < 0.015) { chosen[i] = null; brush.setAttribute("height", 0); paint(); }
      from = null;
    });
  });
  listen(chart, (event, px, py) => {
    const segment = Math.min(columns.length - 2, Math.max(0, columns.findIndex((at) => at > px) - 1));
    if (columns.length < 2) return false;
    const share = (px - columns[segment]) / (columns[segment + 1] - columns[segment]);
    let best = null, least = 8;
    for (const index of drawn) {
      const at = places.get(index), distance = Math.abs(y(chart, at[segment] + share * (at[segment + 1] - at[segment])) - py);
      if (distance <= least) [best, least] = [index, distance];
    }
    if (best !== null) tellTrial(event, best);
    return best !== null;
  });
};

function wrapped(name, width) {
  if (name.length <= width) return [name];
  const breaks = [...name].map((letter, index) => ("_./".includes(letter) && index < width ? index + 1 : 0)).filter(Boolean);
  const at = breaks.length ? breaks.at(-1) : width;
  return [name.slice(0, at), letters(name.slice(at), width)];
}

draw.slices = (holder) => {
  const { value, state } = data.trials, range = data.range, up = axis(padded(range, 0.09));
  const kept = value.map((_, index) => index).filter((index) => value[index] !== null);
  const shade = shades(), orange = colour("orange"), ground = colour("card");
  const outside = kept.filter((index) => beyond(value[index], range)).length;
  const entries = [["early trials", "dot", shade(0.15)], ["late trials", "dot", shade(1)], ["best", "ring", orange]];
  if (outside) entries.push([`beyond the axis (${outside})`, "arrow", orange]);
  legend(holder, entries);
  holder.querySelector(".panels")?.remove();
  const grid = document.createElement("div");
  grid.className = "panels";
  holder.append(grid);
  const cells = data.parameters.map((parameter) => { // all at first: their number decides their width
    const cell = document.createElement("div"), title = document.createElement("h3");
    title.textContent = parameter.short;
    cell.dataset.label = `${data.metric} by ${parameter.short}`;
    cell.append(title);
    grid.append(cell);
    return cell;
  });
  data.parameters.forEach((parameter, number) => {
    const cell = cells[number];
    const slanted = parameter.labels && Math.max(...parameter.labels.map((text) => text.length)) > 6;
    const chart = plot(cell, { height: slanted ? 236 : 206, left: 46, right: 10, bottom: slanted ? 60 : 30 });
    const along = scaleOf(parameter), points = [];
    const inset = parameter.labels ? 0 : 0.03, wide = { ...along, place: (one) => inset + along.place(one) * (1 - 2 * inset) };
    wide.ticks = (count) => along.ticks(count).map(([place, text]) => [inset + place * (1 - 2 * inset), text]);
    wide.minor = () => along.minor().map((place) => inset + place * (1 - 2 * inset));
    vertical(chart, up);
    horizontal(chart, wide);
    const radius = kept.length > 2000 ? 1.5 : kept.length > 300 ? 2.2 : 3.4;
    kept.forEach((index, order) => {
      if (parameter.values[index] === null) return;
      const rank = order / Math.max(1, kept.length - 1), way = beyond(value[index], range);
      const px = x(chart, spread(parameter, wide, parameter.values[index], rank));
      const py = way ? (way > 0 ? chart.top + 6 : chart.top + chart.high - 6) : y(chart, up.place(value[index]));
      if (way) arrow(chart.pen, px, py, way, orange, 4);
      else dot(chart.pen, px, py, radius, shade(0.15 + 0.85 * rank), radius > 3 ? ground : null);
      points.push([px, py, index]);
    });
    const best = points.find((point) => point[2] === data.best);
    if (best) ring(chart.pen, best[0], best[1], orange);
    listen(chart, (event, px, py) => {
      const found = nearest(points, px, py, 20);
      if (found) tellTrial(event, found[2]);
      return found;
    });
  });
};

// One metric of one or several runs over the optimizer steps.
draw.lines = (holder) => {
  const { series, log, range, across, unit } = data.lines[+holder.dataset.of];
  const paints = ["blue", "orange", "green", "purple", "sky", "ink", "gold", "faint"].map(colour);
  const dashes = [[], [7, 4], [2, 3]], kinds = ["line", "dash", "dots"];
  const paint = (one) => paints[one.colour % paints.length], dash = (one) => dashes[Math.floor(one.colour / paints.length) % 3];
  legend(holder, series.map((one) => [letters(one.name, 40), kinds[Math.floor(one.colour / paints.length) % 3], paint(one)]));
  const chart = plot(holder, { height: 240, bottom: 40, right: 16 });
  const room = 0.05, map = log ? Math.log10 : (one) => one, back = log ? (one) => 10 ** one : (one) => one;
  const span = map(range.high) - map(range.low);
  const up = axis({ low: back(map(range.low) - room * span), high: back(map(range.high) + room * span), log });
  const along = axis({ low: across.low, high: across.high > across.low ? across.high : across.low + 1, whole: true });
  vertical(chart, up);
  horizontal(chart, along, unit);
  const at = (one, i) => (one.y[i] === null ? null : [x(chart, along.place(one.x[i])), y(chart, up.place(one.y[i]))]);
  for (const one of series) {
    path(chart.pen, one.x.map((_, i) => at(one, i)), paint(one), one.x.length > 400 ? 1 : 1.7, one.x.length > 400 ? 0.8 : 1, dash(one));
    if (one.x.length <= 30) one.x.forEach((_, i) => { if (at(one, i)) dot(chart.pen, ...at(one, i), 2.6, paint(one)); });
  }
  listen(chart, (event, px) => {
    const step = along.low + ((px - chart.left) / chart.wide) * (along.high - along.low);
    const rows = series.map((one) => {
      let near = 0;
      one.x.forEach((position, i) => { if (Math.abs(position - step) < Math.abs(one.x[near] - step)) near = i; });
      return [one.name, `${short(one.y[near])} at ${one.x[near]}`];
    });
    tell(event, `${unit} ${Math.max(0, Math.round(step))}`, rows);
    return true;
  });
};

// -- the leaderboard's further rows, copying, redrawing ------------------------------------------------------

const more = document.getElementById("more");
if (more) {
  const body = document.querySelector("#leaderboard tbody");
  let shown = body.rows.length;
  const label = () => {
    const left = data.order.length - shown;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(100, left)} more of ${left}`;
  };
  more.addEventListener("click", () => {
    for (const index of data.order.slice(shown, shown + 100)) {
      const row = body.insertRow();
      const cells = [String(++shown), String(data.trials.number[index]), data.trials.value[index].toFixed(data.decimals)];
      for (const one of data.further) cells.push(short(one.values[index]));
      for (const one of data.parameters) cells.push(worded(one, index));
      cells.push(data.trials.took[index], data.trials.run[index]);
      cells.forEach((text, column) => {
        const cell = row.insertCell();
        cell.textContent = text;
        cell.className = body.rows[0].cells[column].className;
      });
    }
    label();
  });
  label();
}

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
    } catch { button.textContent = "Not allowed here"; }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

function redraw() {
  tip.hidden = true;
  for (const holder of document.querySelectorAll("[data-chart]")) draw[holder.dataset.chart](holder);
}

// Also where a frame gets its size after it was loaded, as in MLflow; heights do not matter.
let width = null, waiting = null;
new ResizeObserver((entries) => {
  const now = Math.round(entries[0].contentRect.width);
  if (now === width || now === 0) return;
  clearTimeout(waiting);
  waiting = setTimeout(redraw, width === null ? 0 : 80);
  width = now;
}).observe(document.querySelector("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
