"use strict";
// Texts of the dataset and of models are data: they enter the page by textContent alone.
const byId = (id) => document.getElementById(id);
const make = (name, text, className) => {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.textContent = text;
  if (className) node.className = className;
  return node;
};
const PER_PAGE = 50;

// ---- figures: drawn when they come near, or the browser has nothing else to do (a printer waits for none)
// What is ink on a light screen and on paper is light on a dark one: the style sheet says so.
const specs = JSON.parse(byId("specs").textContent);
const drawn = new Map();
function draw(node) {
  if (!drawn.has(node)) drawn.set(node, vegaEmbed(node, { $schema: specs.schema, ...structuredClone(specs.charts[node.dataset.chart]),
    config: specs.config, background: "transparent" },
    { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } }));
  return drawn.get(node);
}
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
}, { rootMargin: "600px" });
const figures = [...document.querySelectorAll(".chart")];
figures.forEach((node) => near.observe(node));
const idle = window.requestIdleCallback || ((work) => setTimeout(work, 200));
const drawNext = () => { const node = figures.find((each) => !drawn.has(each)); if (node) draw(node).finally(() => idle(drawNext)); };

// ---- items -----------------------------------------------------------------------------------------
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
async function unpacked(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}
let data, rows = [], shown = [], page = 0;

function fill(select, names, all) {
  select.append(new Option(all, ""));
  for (const name of names) select.append(new Option(name, name));
}
function start(found) {
  data = found;
  data.items.forEach((item) => {
    item.runs.forEach((answer) => {
      const words = [item.id, item.category, item.question, item.choices.join(" "), item.answer, answer.reply, item.skills.join(" ")];
      rows.push({ item, answer, text: words.join(" ").toLowerCase() });
    });
  });
  fill(byId("run"), data.runs, "all");
  fill(byId("category"), [...new Set(data.items.map((item) => item.category))], "all");
  fill(byId("outcome"), data.outcomes.filter((word) => rows.some((row) => row.answer.outcome === word)), "anything");
  byId("filters").addEventListener("input", filter);
  byId("earlier").addEventListener("click", () => show(page - 1));
  byId("later").addEventListener("click", () => show(page + 1));
  filter();
  idle(drawNext);
  if (location.hash.startsWith("#item=")) { byId("query").value = decodeURIComponent(location.hash.slice(6)); filter(); }
}
function filter() {
  const words = byId("query").value.toLowerCase().split(/\s+/).filter(Boolean);
  const run = byId("run").value, category = byId("category").value, outcome = byId("outcome").value;
  const differ = byId("differ") && byId("differ").checked;
  shown = rows.filter((row) =>
    (!run || row.answer.run === run) && (!category || row.item.category === category) && (!outcome || row.answer.outcome === outcome) &&
    (!differ || row.item.runs.some((other) => other.score !== row.item.runs[0].score)) && words.every((word) => row.text.includes(word)));
  show(0);
}
function show(wanted) {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(Math.max(wanted, 0), pages - 1);
  byId("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} replies`;
  byId("page").textContent = `page ${page + 1} of ${pages}`;
  byId("earlier").disabled = page === 0;
  byId("later").disabled = page === pages - 1;
  byId("list").replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(line));
}
function line(row) {
  const entry = make("li"), head = make("button", null, "head");
  head.type = "button";
  head.setAttribute("aria-expanded", "false");
  const kind = row.answer.outcome === "right" ? "is-right" : row.answer.outcome === "unscored" ? "" : "is-wrong";
  head.append(make("b", row.answer.outcome, kind), make("i", row.item.category), make("span", row.item.question));
  if (data.runs.length > 1) head.append(make("i", row.answer.run));
  head.addEventListener("click", () => {
    const open = entry.querySelector(".item");
    if (open) open.remove(); else entry.append(detail(row));
    head.setAttribute("aria-expanded", String(!open));
  });
  entry.append(head);
  return entry;
}
function marked(text, words) {
  // An "A" that decided stands for itself, not within "An"; the last that does, as a reader takes it.
  const letter = /[\p{L}\p{N}]/u, apart = (place) => !(letter.test(words[0]) && letter.test(text[place - 1] || "")) &&
    !(letter.test(words[words.length - 1]) && letter.test(text[place + words.length] || ""));
  const node = make("pre");
  let place = words ? text.lastIndexOf(words) : -1;
  while (place > 0 && !apart(place)) place = text.lastIndexOf(words, place - 1);
  if (place >= 0 && !apart(place)) place = -1;
  if (place < 0) { node.textContent = text === "" ? "(no text)" : text; return node; }
  node.append(text.slice(0, place), make("mark", words), text.slice(place + words.length));
  return node;
}
function facts(list, pairs) {
  for (const [name, value] of pairs) if (value !== null && value !== undefined && value !== "") list.append(make("dt", name), make("dd", String(value)));
}
function detail({ item, answer }) {
  const node = make("div", null, "item");
  item.clips.forEach((clip, position) => node.append(player(clip, position, item.clips.length)));
  if (item.choices.length) {
    const list = make("ol", null, "choices");
    list.type = "A";
    item.choices.forEach((choice, position) => {
      const notes = [item.gold.includes(position) ? "right" : "", answer.chosen === position ? "chosen" : ""].filter(Boolean);
      list.append(make("li", choice + (notes.length ? `  ← ${notes.join(", ")}` : ""), item.gold.includes(position) ? "is-right" : ""));
    });
    node.append(list);
  }
  node.append(make("h4", `Reply of ${answer.run}`), marked(answer.reply, answer.evidence));
  const list = make("dl");
  facts(list, [["judgement", `${answer.outcome} (read as: ${answer.status})`], ["score", answer.score],
    ["words that decided", answer.evidence], ["why it ended", answer.finish], ["details", answer.details],
    ["reference answer", item.answer], ["id", item.id], ["skills", item.skills.join(", ")], ["sub-category", item.sub_category],
    ["labelled length", item.length_type], ["seconds heard", answer.seconds_heard], ["windows", answer.windows],
    ["audio tokens", answer.audio_tokens]]);
  node.append(list);
  return node;
}
function player(clip, position, count) {
  const box = make("div"), audio = make("audio");
  audio.controls = true;
  audio.preload = "none";
  if (clip.embedded !== null) {
    const kept = byId(`clip-${clip.embedded}`);
    audio.src = URL.createObjectURL(new Blob([bytesOf(kept.textContent)], { type: kept.dataset.mime }));
  } else if (clip.link) {
    audio.src = location.protocol === "file:" ? clip.link : `clip/${clip.number}`;
  }
  const about = [count > 1 ? `clip ${position + 1} of ${count}` : "clip", clip.name,
    clip.seconds === null ? "" : `${clip.seconds} s`, clip.channels ? `${clip.channels} channel(s)` : "", clip.rate ? `${clip.rate} Hz` : ""];
  box.append(make("small", about.filter(Boolean).join(", ")));
  if (clip.wave) box.append(wave(clip.wave));
  if (audio.src) {
    audio.setAttribute("aria-label", `${about[0]}: ${clip.name}`);
    audio.addEventListener("error", () => box.append(make("small",
      " This browser does not play the file from here: `mmaupro report … --serve` opens the page so that it does.")));
    box.append(audio);
  } else box.append(make("small", " (the file was not found when this page was made)"));
  return box;
}
function wave(text) {
  // Pairs of lowest and highest sample, in 1/127 of full scale.
  const values = new Int8Array(bytesOf(text).buffer), columns = values.length / 2, svg = "http://www.w3.org/2000/svg";
  let path = "";
  for (let i = 0; i < columns; i++) path += `M${i} ${127 - values[2 * i + 1]}h.9V${128 - values[2 * i]}h-.9z`;
  const node = document.createElementNS(svg, "svg"), shape = document.createElementNS(svg, "path");
  node.setAttribute("viewBox", `0 0 ${columns} 255`);
  node.setAttribute("preserveAspectRatio", "none");
  node.setAttribute("class", "wave");
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", "waveform");
  shape.setAttribute("d", path);
  node.append(shape);
  return node;
}
unpacked(byId("data").textContent).then(start).catch((error) => { byId("count").textContent = `The items cannot be shown: ${error}`; throw error; });
