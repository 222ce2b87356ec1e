// The search page: it asks the routes under /ui, and only reads.
// Names and metadata may come from anybody: they enter the page as text and properties alone.

const TEXT = {
  start: ["Find pictures by what they show", "Write what you look for, or drop, paste or choose a picture."],
  empty: ["This collection is empty", "Stop the server, run “jclip index”, start it again."],
  nothing: ["Nothing was found", "No record here matches the filters."],
  none: (tab) => [`This collection has no ${tab}s`, "All that it has is on the other tab."],
  below: (count) => [`All ${count} results are below this score`, "Move the slider to the left to see them."],
  gone: ["The server does not answer", "Start it again, and open the address that it prints."],
  lost: ["The picture is no longer here", "It is kept only while the page is open: drop, paste or choose it again."],
  noFile: ["No picture was dropped", "Save it first: addresses are not fetched."],
  failed: "This was not answered",
  again: "Try again", clear: "Clear the filters", all: "Show all", other: "Show the other tab",
  searching: "Searching…", loading: "The model is loading, then the search begins.",
  busy: (seconds) => `The server is busy: trying again in ${seconds} s…`,
  found: (count, shown, ms) => `${shown < count ? `${shown} of ` : ""}${count} ${count === 1 ? "result" : "results"} · ${Math.round(ms)} ms`,
  image: "Images", text: "Texts", filters: "Filters", any: "any", yes: "yes", no: "no", gte: "from", lte: "to", is: "is",
  like: "Like ", picture: "Picture: ", regionOf: "A region of ", region: "Select a region", noRegion: "Remove region",
  remove: "Remove", similar: "Similar", unnamed: "a picture",
  missing: "This picture cannot be shown", score: (score) => `Score ${score.toFixed(3)}`,
  regionHelp: "Drag over the picture to search for a part.",
  regionNow: (box) => `Region ${box.join(", ")}. Arrows move it, Shift+arrows size it, Enter searches.`,
  path: "Path", size: "Size in pixels", match: "Best match", caption: "Caption", copies: "Copies",
  json: (why) => `This is not a JSON object: ${why}`, object: 'write {"field": value}', wrongKey: "This key is not right.",
};
const FIRST = 100, MOST = 200, THUMB_PX = 240;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const $ = (id) => document.getElementById(id);

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter(Boolean));
  return element;
}
const button = (textContent, onclick, more) => make("button", { type: "button", textContent, onclick, ...more });
const span = (className, textContent) => make("span", { className, textContent, dir: "auto" });
const put = (id, text) => { $(id).textContent = text; };
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// ---- the server

class Refusal extends Error {
  constructor({ status, headers }, { detail }) {
    super(detail ?? `HTTP ${status}`);
    this.status = status;
    this.waitS = clamp(Number(headers.get("Retry-After")), 0, 60);
  }
}

async function call(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({})); // without a body
  if (!response.ok) throw new Refusal(response, body);
  return body;
}

function post(path, body, type, signal) {
  return call(path, { method: "POST", headers: { "Content-Type": `application/${type}` }, body, signal });
}

function request(limit, signal) {
  const { question: { text, like, picture, box }, tab: modality, where } = view;
  if (!picture) return post("/ui/search", JSON.stringify({ text, like, box, where, modality, limit }), "json", signal);
  const query = new URLSearchParams({ modality, limit, where: JSON.stringify(where) });
  if (box) query.set("box", box);
  return post(`/ui/search?${query}`, pictures.get(picture).file, "octet-stream", signal);
}

/** Ask; a busy server is asked once more, and one that loads the model until it is there. */
async function patiently(limit, signal) {
  for (let again = 0; ; ) {
    try {
      return await request(limit, signal);
    } catch (error) {
      if (!error.waitS) throw error;
      const loading = error.status === 503 && !(await call("/ui/info", { signal })).ready;
      if (!loading && again++) throw error;
      say(loading ? TEXT.loading : TEXT.busy(error.waitS));
      await new Promise((done) => setTimeout(done, error.waitS * 1000));
    }
  }
}

// ---- what is asked for, and its address

let info = { counts: { image: 0, text: 0 }, fields: [] };
let view = { question: null, where: {}, least: null }; // and `tab`; a question: {text | like | picture, box, shown}
const pictures = new Map(); // of this page, by key: {file, shown}

function address() {
  const { question, tab, where, least } = view;
  const { text, like, picture, box } = question ?? {};
  const filter = Object.keys(where).length ? JSON.stringify(where) : null;
  const parts = { q: text, like, picture, box, where: filter, tab: tab && `${tab}s`, least };
  return `${location.pathname}?${new URLSearchParams(Object.entries(parts).filter(([, value]) => value != null))}`;
}

function readAddress() {
  const from = new URLSearchParams(location.search);
  const [text, like, picture, least] = ["q", "like", "picture", "least"].map((name) => from.get(name) || undefined);
  const numbers = from.get("box")?.split(",").map(Number);
  const box = numbers?.length === 4 && numbers.every(Number.isInteger) ? numbers : undefined;
  const shown = picture ? pictures.get(picture)?.shown : history.state?.shown;
  const question = text ? { text } : like || picture ? { like, picture, box, shown } : null;
  const tab = { images: "image", texts: "text" }[from.get("tab")] ?? (info.counts.text && !info.counts.image ? "text" : "image");
  view = { question, tab, where: {}, least: Number.isFinite(Number(least)) ? Number(least) : null };
  try { view.where = readWhere(from.get("where") ?? "{}"); } catch { /* a damaged link: no filter */ }
}

/** A new entry of the history, and a new search. */
function go(change) {
  view = { ...view, ...change };
  history.pushState({ shown: view.question?.shown }, "", address());
  refresh();
}

const keepAddress = (to = address()) => history.replaceState(history.state, "", to);

function ask(question) {
  $("detail").close();
  scrollTo(0, 0);
  go({ question, least: null });
}

function refresh() {
  const { question, tab } = view;
  $("text").value = question?.text ?? "";
  document.title = [question?.text ?? question?.shown?.name, info.name].filter(Boolean).join(" · ");
  for (const each of ["image", "text"]) {
    const textContent = `${TEXT[each]} ${info.counts[each].toLocaleString("en")}`;
    Object.assign($(`tab-${each}`), { ariaSelected: String(each === tab), tabIndex: each === tab ? 0 : -1, textContent });
  }
  $("results").setAttribute("aria-labelledby", `tab-${tab}`);
  showQuestion();
  showFilters();
  search();
}

// ---- searching

let asked = 0; // counts the questions: an answer to an earlier one is not shown
let running = new AbortController();
let hits = [];
let tookMs = 0;

async function search(limit = FIRST) {
  const mine = ++asked;
  const { question, tab } = view;
  const { counts } = info;
  running.abort();
  running = new AbortController();
  put("where-error", "");
  wait(false, "");
  if (limit === FIRST) show([]);
  if (!info.model) return; // `start` will search
  if (!counts.image && !counts.text) return notice(TEXT.empty);
  if (!counts[tab]) return notice(TEXT.none(tab), button(TEXT.other, otherTab));
  if (!question) return notice(TEXT.start);
  if (question.picture && !pictures.has(question.picture)) return notice(TEXT.lost);
  wait(true, TEXT.searching);
  try {
    const answer = await patiently(limit, running.signal);
    if (mine !== asked) return;
    wait(false, "");
    tookMs = answer.took_ms;
    show(answer.hits, limit === FIRST ? 0 : hits.length);
    const isFiltered = Object.keys(view.where).length;
    if (!hits.length) notice(TEXT.nothing, isFiltered && button(TEXT.clear, clearFilters));
  } catch (error) {
    if (mine === asked) refused(error, () => search(limit));
  }
}

function refused(error, again) {
  wait(false, "");
  if (error.status === 401) return $("door").open || $("door").showModal();
  if (!(error instanceof Refusal)) return notice(TEXT.gone, button(TEXT.again, again));
  if (error.message.includes("`where`")) {
    put("where-error", error.message);
    openFilters(true);
  }
  notice([TEXT.failed, error.message], button(TEXT.again, again));
}

const say = (text) => put("status", text);

function wait(isWaiting, text) {
  $("busy").hidden = !isWaiting;
  say(text);
}

function notice(texts, remedy) {
  const [heading, line] = texts ?? [];
  $("notice").replaceChildren();
  if (texts) $("notice").append(make("h2", { textContent: heading }), make("p", { textContent: line }), remedy || "");
}

const otherTab = () => go({ tab: view.tab === "image" ? "text" : "image" });

// ---- results

let reached = null; // the card that the tab key reaches; the arrows move on from it

function show(found, from = 0) {
  hits = [...hits.slice(0, from), ...found.slice(from)];
  $("hits").className = view.tab;
  if (!from) $("hits").replaceChildren();
  $("hits").append(...hits.slice(from).map(item));
  if (!from) reach(cards()[0]);
  notice(null);
  const most = hits[0]?.score, fewest = hits.at(-1)?.score;
  $("slider").hidden = !(most - fewest > 0.001);
  if (!hits.length) return;
  $("least").min = Math.floor(fewest * 1000) / 1000;
  $("least").max = Math.ceil(most * 1000) / 1000;
  hideBelow();
}

const isShown = (hit) => hit.score >= (view.least ?? -Infinity);

/** Hide what is below the score of the slider; nothing is asked again. */
function hideBelow() {
  [...$("hits").children].forEach((li, at) => { li.hidden = !isShown(hits[at]); });
  const count = hits.filter(isShown).length;
  $("least").value = view.least ?? $("least").min;
  put("least-shown", Number($("least").value).toFixed(3));
  say(TEXT.found(hits.length, count, tookMs));
  notice(count ? null : TEXT.below(hits.length), button(TEXT.all, () => { view.least = null; hideBelow(); keepAddress(); }));
  if (reached?.parentElement.hidden) reach(cards()[0]);
}

function item(hit) {
  const isImage = hit.modality === "image";
  const name = span("name", hit.name);
  name.title = hit.name;
  const under = make("span", { className: "under" }, name, " ", span("score", hit.score.toFixed(3)));
  const words = hit.content && span(isImage ? "words caption" : "words", hit.content);
  const parts = isImage ? [make("span", { className: "frame" }, thumbnail(hit)), under, words] : [words, under];
  const card = make("button", { className: "card", type: "button", tabIndex: -1, hit, onclick: () => openDetail(hit) }, ...parts);
  card.onfocus = () => reach(card);
  const ariaLabel = `${TEXT.similar}: ${hit.name}`;
  return make("li", {}, card, button(TEXT.similar, () => moreLike(hit), { className: "similar", tabIndex: -1, ariaLabel }));
}

/** A small picture that keeps its place while it loads, with its tile outlined. */
function thumbnail(hit) {
  if (!hit.thumb) return missing();
  const [width, height] = hit.size ?? [1, 1]; // unknown for a few formats
  const image = make("img", { loading: "lazy", alt: "", width, height, draggable: false, src: `${hit.thumb}&side=${THUMB_PX}` });
  const shot = make("span", { className: "shot" }, image, tileOf(hit) && outline(hit.box, hit.size));
  shot.style.aspectRatio = width / height;
  shot.style.width = `${100 * Math.min(1, width / height)}%`;
  image.onerror = () => shot.replaceWith(missing());
  return shot;
}

const missing = () => span("missing", TEXT.missing);

/** Where the match lies, if not everywhere. */
const tileOf = ({ box, size }) => box && size && (box[2] - box[0] < size[0] || box[3] - box[1] < size[1]) ? box : null;

const outline = (box, size) => place(span("box"), parts(box, size));

const parts = ([left, top, right, bottom], [width, height]) => [left / width, top / height, right / width, bottom / height];

function place(element, [left, top, right, bottom]) {
  const sides = { left, top, width: right - left, height: bottom - top };
  for (const side in sides) element.style[side] = `${100 * sides[side]}%`;
  return element;
}

const cards = () => [...$("hits").querySelectorAll("li:not([hidden]) > .card")];

function reach(card) {
  if (reached) reached.tabIndex = -1;
  reached = card;
  if (card) card.tabIndex = 0;
}

function moveFocus(key) {
  const all = cards();
  const at = all.indexOf(document.activeElement);
  const columns = all.filter((card) => card.parentElement.offsetTop === all[0].parentElement.offsetTop).length;
  const [across, down] = ARROWS[key] ?? [];
  const next = key === "Home" ? 0 : key === "End" ? all.length - 1 : at + across + down * columns;
  all[at < 0 && ARROWS[key] ? all.indexOf(reached) : next]?.focus();
}

/** What is kept of a hit that is asked for: the page shows it above the results, and the history remembers it. */
const asShown = (hit) => ({ ...hit, score: undefined, box: null, metadata: {}, duplicates: 0 });

const moreLike = (hit) => ask({ like: hit.id, shown: asShown(hit) });

new IntersectionObserver(([{ isIntersecting }]) => {
  if (isIntersecting && hits.length === FIRST && isShown(hits.at(-1))) search(MOST);
}, { rootMargin: "800px" }).observe($("more"));

// ---- the picture that is asked for

function showQuestion() {
  const { like, picture, box, shown } = view.question ?? {};
  $("question").hidden = !like && !picture;
  const sample = span("sample");
  const src = picture ? shown?.picture : shown?.thumb && `${shown.thumb}&side=${THUMB_PX}`;
  if (src) sample.append(make("img", { alt: "", src, onerror: () => sample.remove() }), box ? outline(box, shown.size) : "");
  const kind = box ? TEXT.regionOf : picture ? TEXT.picture : TEXT.like;
  $("question").replaceChildren(
    src ? sample : "",
    span("what", kind + (shown?.name ?? TEXT.unnamed)),
    shown?.picture && shown.size ? button(TEXT.region, () => openDetail(shown, true)) : "",
    button(TEXT.remove, () => { ask(null); $("text").focus(); }, { className: "plain" }),
  );
}

async function takePicture(file) {
  const key = Math.random().toString(36).slice(2);
  const picture = URL.createObjectURL(file);
  const shown = { key, name: file.name || TEXT.unnamed, modality: "image", picture };
  const probe = make("img", { src: picture });
  try {
    await probe.decode();
    shown.size = [probe.naturalWidth, probe.naturalHeight];
  } catch {
    shown.picture = null; // the server may know formats that this browser does not
  }
  pictures.set(key, { file, shown });
  ask({ picture: key, shown });
}

// ---- one result and its region

let opened = null;
let region = null; // [left, top, right, bottom] as parts of the width and the height

function openDetail(hit, withRegion = false) {
  opened = hit;
  const isImage = hit.modality === "image", isHit = hit.score !== undefined, canShow = Boolean(hit.picture);
  const tile = tileOf(hit);
  put("detail-name", hit.name);
  put("detail-score", isHit ? TEXT.score(hit.score) : "");
  $("stage").hidden = !isImage;
  put("whole-text", isImage ? "" : hit.content);
  $("pages").hidden = !isHit;
  $("before").disabled = !neighbour(-1);
  $("after").disabled = !neighbour(1);
  showPicture(canShow);
  if (canShow) {
    const [width, height] = hit.size ?? [1, 1];
    $("stage").style.setProperty("--ratio", width / height);
    Object.assign($("large"), { alt: hit.name, src: hit.picture });
    if (tile) place($("tile"), parts(tile, hit.size));
  }
  const facts = [
    [TEXT.path, hit.path], [TEXT.caption, isImage && hit.content], [TEXT.size, hit.size?.join(" × ")],
    [TEXT.match, tile?.join(", ")], [TEXT.copies, hit.duplicates || null],
  ];
  $("facts").replaceChildren();
  for (const [name, value] of [...facts.filter(([, value]) => value), ...Object.entries(hit.metadata ?? {})]) {
    const textContent = typeof value === "string" ? value : JSON.stringify(value);
    $("facts").append(make("dt", { dir: "auto", textContent: name }), make("dd", { dir: "auto", textContent }));
  }
  if (!$("detail").open) $("detail").showModal();
  if (withRegion) startRegion();
}

function showPicture(can) {
  $("large").hidden = !can;
  $("no-picture").hidden = can;
  put("no-picture", TEXT.missing);
  setRegion(null);
}

const neighbour = (step) => hits.filter(isShown)[hits.indexOf(opened) + step];

function turn(step) {
  const next = opened.score !== undefined && neighbour(step);
  if (next) openDetail(next);
}

const canCut = () => opened.modality === "image" && opened.size && !$("large").hidden;

function setRegion(next) {
  region = next;
  $("region").hidden = $("search-region").hidden = !next;
  $("like").hidden = Boolean(next) || !opened.id;
  $("tile").hidden = Boolean(next) || !canCut() || !tileOf(opened);
  $("cut").hidden = !canCut();
  put("cut", next ? TEXT.noRegion : TEXT.region);
  put("region-help", canCut() ? TEXT.regionHelp : "");
  if (!next) return;
  place($("region"), next).ariaLabel = $("region-help").textContent = TEXT.regionNow(pixels(next));
}

function pixels([left, top, right, bottom]) {
  const [width, height] = opened.size;
  const x = Math.min(width - 1, Math.round(left * width)), y = Math.min(height - 1, Math.round(top * height));
  return [x, y, Math.max(x + 1, Math.round(right * width)), Math.max(y + 1, Math.round(bottom * height))];
}

function startRegion() {
  if (!canCut()) return;
  const tile = tileOf(opened);
  setRegion(region ?? (tile ? parts(tile, opened.size) : [0.25, 0.25, 0.75, 0.75]));
  $("region").focus();
}

function searchRegion() {
  const { key: picture, id: like } = opened;
  ask({ like, picture, box: pixels(region), shown: asShown(opened) });
}

function moved([left, top, right, bottom], across, down) {
  const x = clamp(left + across, 0, 1 - (right - left)), y = clamp(top + down, 0, 1 - (bottom - top));
  return [x, y, x + right - left, y + bottom - top];
}

function regionKeys(event) {
  const [across, down] = (ARROWS[event.key] ?? []).map((step) => step / 50);
  const [left, top, right, bottom] = region;
  if (event.key === "Enter") searchRegion();
  else if (event.key === "Escape") {
    setRegion(null);
    $("cut").focus();
  } else if (across === undefined) return;
  else if (event.shiftKey) setRegion([left, top, clamp(right + across, left + 0.01, 1), clamp(bottom + down, top + 0.01, 1)]);
  else setRegion(moved(region, across, down));
  event.preventDefault();
  event.stopPropagation();
}

/** Draw a region with the pointer, or move the one that it is in. */
function followPointer(event) {
  if (event.button || !canCut()) return;
  event.preventDefault();
  const stage = $("stage");
  const bounds = stage.getBoundingClientRect();
  const at = ({ clientX, clientY }) => [clamp((clientX - bounds.left) / bounds.width, 0, 1), clamp((clientY - bounds.top) / bounds.height, 0, 1)];
  const [x, y] = at(event);
  const held = event.target === $("region") && region;
  if (!held) setRegion(null);
  stage.setPointerCapture(event.pointerId);
  stage.onpointermove = (move) => {
    const [toX, toY] = at(move);
    setRegion(held ? moved(held, toX - x, toY - y) : [Math.min(x, toX), Math.min(y, toY), Math.max(x, toX), Math.max(y, toY)]);
  };
  stage.onlostpointercapture = () => {
    stage.onpointermove = null;
    if (!region || region[2] - region[0] < 0.01 || region[3] - region[1] < 0.01) setRegion(null); // a click
    else $("region").focus();
  };
}

// ---- filters

function readWhere(text) {
  const read = JSON.parse(text);
  if (typeof read !== "object" || !read || Array.isArray(read)) throw new SyntaxError(TEXT.object);
  return read;
}

const clearFilters = () => go({ where: {} });

function setField(name, condition) {
  const where = { ...view.where, [name]: condition };
  if (condition === undefined) delete where[name];
  go({ where });
}

function showFilters() {
  const count = Object.keys(view.where).length;
  put("filters", count ? `${TEXT.filters} (${count})` : TEXT.filters);
  $("where").value = count ? JSON.stringify(view.where) : "";
  if ($("fields").contains(document.activeElement)) return; // it shows what was just set
  $("fields").replaceChildren(...info.fields.filter(({ name }) => !["and", "or", "not"].includes(name)).map((field) => {
    const legend = make("legend", { dir: "auto", textContent: field.name });
    return make("fieldset", {}, legend, control(field, view.where[field.name]));
  }));
}

function control({ name, type, values, smallest, largest }, condition) {
  if (type === "number") {
    const ends = { gte: smallest, lte: largest };
    const [low, high] = Object.keys(ends).map((key) => make("input", {
      type: "number", step: "any", name: key, placeholder: ends[key], value: condition?.[key] ?? "", ariaLabel: `${name} ${TEXT[key]}`,
    }));
    const onchange = () => {
      const set = [low, high].filter(({ value }) => value).map((input) => [input.name, Number(input.value)]);
      setField(name, set.length ? Object.fromEntries(set) : undefined);
    };
    return make("div", { className: "pair", onchange }, low, "–", high);
  }
  if (type === "boolean") {
    const onchange = ({ target }) => setField(name, { yes: true, no: false }[target.value]);
    const select = make("select", { ariaLabel: name, onchange }, ...["any", "yes", "no"].map((each) => new Option(TEXT[each], each)));
    select.value = condition === true ? "yes" : condition === false ? "no" : "any";
    return select;
  }
  const chosen = new Set(typeof condition === "string" ? [condition] : condition?.in);
  if (!values) {
    const onchange = ({ target }) => setField(name, target.value || undefined);
    return make("input", { ariaLabel: `${name} ${TEXT.is}`, value: [...chosen][0] ?? "", onchange });
  }
  return make("div", { className: "list" }, ...values.map((value) => {
    const onchange = ({ target }) => {
      chosen[target.checked ? "add" : "delete"](value);
      setField(name, chosen.size ? { in: [...chosen] } : undefined);
    };
    return make("label", {}, make("input", { type: "checkbox", checked: chosen.has(value), onchange }), span("", value));
  }));
}

function openFilters(isOpen) {
  $("filter-panel").hidden = !isOpen;
  $("filters").ariaExpanded = String(isOpen);
}

// ---- who may look

async function enter(body) {
  await post("/ui/session", JSON.stringify(body), "json");
  $("door").close();
}

async function start() {
  notice(null);
  const token = new URLSearchParams(location.hash.slice(1)).get("t");
  if (token) keepAddress(location.pathname + location.search);
  try {
    if (token) await enter({ token });
    info = await call("/ui/info");
  } catch (error) {
    return refused(error, start);
  }
  put("name", info.name);
  $("name").title = [info.name, info.model, info.licence].filter(Boolean).join(" · ");
  const typed = $("text").value;
  readAddress();
  refresh();
  $("text").value ||= typed;
}

// ---- events

const on = (id, type, handle) => $(id).addEventListener(type, handle);

on("ask", "submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) ask({ text });
});
on("choose", "click", () => $("file").click());
on("file", "change", ({ target }) => {
  takePicture(target.files[0]);
  target.value = "";
});
for (const tab of ["image", "text"]) {
  on(`tab-${tab}`, "click", () => go({ tab }));
  on(`tab-${tab}`, "keydown", (event) => {
    if (!ARROWS[event.key]?.[0]) return;
    event.stopPropagation();
    otherTab();
    $(`tab-${view.tab}`).focus();
  });
}
on("filters", "click", () => openFilters($("filter-panel").hidden));
on("clear", "click", clearFilters);
on("apply", "click", () => {
  try {
    go({ where: readWhere($("where").value || "{}") });
  } catch (error) {
    put("where-error", TEXT.json(error.message));
  }
});
on("least", "input", ({ target }) => {
  view.least = target.value === target.min ? null : Number(target.value);
  hideBelow();
});
on("least", "change", () => keepAddress());
on("help", "click", () => $("keys").showModal());
on("keys-close", "click", () => $("keys").close());
on("close", "click", () => $("detail").close());
on("like", "click", () => moreLike(opened));
on("cut", "click", () => (region ? setRegion(null) : startRegion()));
on("search-region", "click", searchRegion);
on("before", "click", () => turn(-1));
on("after", "click", () => turn(1));
on("large", "error", () => showPicture(false));
on("stage", "pointerdown", followPointer);
on("region", "keydown", regionKeys);
on("detail", "close", () => cards().find((card) => card.hit === opened)?.focus());
on("door", "cancel", (event) => event.preventDefault());
on("door-form", "submit", async (event) => {
  event.preventDefault();
  try {
    await enter({ key: $("key").value });
  } catch (error) {
    put("door-error", error.status === 401 ? TEXT.wrongKey : error.message);
    return;
  }
  $("key").value = $("door-error").textContent = "";
  start();
});

addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (target.matches("input, textarea, select") || $("door").open || $("keys").open) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const does = $("detail").open ? detailKey(key) : pageKey(key);
  if (!does) return;
  event.preventDefault();
  does();
});

function detailKey(key) {
  return { m: opened.id && (() => moreLike(opened)), r: startRegion, ArrowLeft: () => turn(-1), ArrowRight: () => turn(1) }[key];
}

function pageKey(key) {
  if (hits.length && (ARROWS[key] || key === "Home" || key === "End")) return () => moveFocus(key);
  const hit = reached?.hit;
  return {
    "/": () => $("text").select(), "?": () => $("keys").showModal(),
    i: () => go({ tab: "image" }), t: () => go({ tab: "text" }),
    m: hit && (() => moreLike(hit)), r: hit && (() => openDetail(hit, true)),
  }[key];
}

addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  takePicture(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").hidden = false;
});
addEventListener("dragleave", ({ relatedTarget }) => { $("drop").hidden = !relatedTarget; });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) takePicture(file);
  else notice(TEXT.noFile);
});
addEventListener("popstate", () => {
  $("detail").close();
  readAddress();
  refresh();
});
addEventListener("hashchange", () => { if (location.hash.startsWith("#t=")) start(); });

start();
