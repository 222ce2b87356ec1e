// The search page: it asks the server's routes under /ui, and only reads.
// Names, texts and metadata may come from anybody: they reach the page as `textContent` and properties alone.

const TEXT = {
  start: ["Find pictures by what they show", "Write what you look for. Or drop a picture here, paste one, or choose a file."],
  empty: ["This collection is empty", "Stop the server, fill the collection with “jclip index FOLDER --collection PATH”, and start it again."],
  nothing: ["Nothing was found", "No record matches the filters."],
  noImages: ["There are no images in this collection", "Its texts are on the other tab."],
  noTexts: ["There are no texts in this collection", "Its images are on the other tab."],
  below: (count) => [`All ${count} results are below the score`, "Move the slider to the left to see them."],
  gone: ["The server does not answer", "Is it still running? Start it again, open the address that it prints, or try again."],
  lost: ["The picture is no longer here", "A page keeps its pictures only while it is open: drop, paste or choose it again."],
  noPicture: (name) => [`${name} is not a picture`, "Drop, paste or choose a picture, such as a JPEG, PNG or WebP file."],
  noFile: ["No picture was dropped", "Addresses are not fetched: save the picture first, then drop the file."],
  failed: "This was not answered",
  tryAgain: "Try again", clearFilters: "Clear the filters", showAll: "Show all", showImages: "Show images", showTexts: "Show texts",
  searching: "Searching…", loading: "The model is loading. The search begins when it is ready.",
  busy: (seconds) => `The server is busy: trying again in ${seconds} s…`,
  found: (count, shown, ms) => `${shown < count ? `${shown} of ${count}` : count} ${count === 1 ? "result" : "results"} · ${Math.round(ms)} ms`,
  images: "Images", texts: "Texts", filters: "Filters", any: "any", yes: "yes", no: "no", to: "to", contains: "exactly",
  like: "Like ", picture: "Picture: ", regionOf: "A region of ", region: "Select a region", noRegion: "Remove the region",
  remove: "Remove", similar: "Similar", similarTo: (name) => `More like ${name}`, record: "a record",
  missing: "This picture cannot be shown", score: (score) => `Score ${score.toFixed(3)}`,
  regionHelp: "Drag over the picture to search for a part of it.",
  regionNow: (box) => `Region ${box.join(", ")}. Arrows move it, Shift and the arrows size it, Enter searches.`,
  facts: { path: "Path", id: "Id", size: "Size", box: "Best match", content: "Caption" },
  px: (numbers) => `${numbers.join(" × ")} px`, boxPx: (box) => `${box[0]}, ${box[1]} to ${box[2]}, ${box[3]}`,
  noJson: (why) => `This is not a JSON object: ${why}`, anObject: 'write {"field": value}',
  wrongKey: "This key is not right.", loadingPicture: "a picture",
};

const FIRST = 100, MOST = 200;
const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child != null));
  return element;
}

// ---------------------------------------------------------------- the server

class Refusal extends Error {
  constructor(response, body) {
    super(typeof body.detail === "string" ? body.detail : `HTTP ${response.status}`);
    this.status = response.status;
    this.field = body.error?.param ?? null;
    this.waitS = Math.min(60, Math.max(1, Number(response.headers.get("Retry-After")) || 2));
  }
}

async function call(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response, body);
  return body;
}

const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const pause = (seconds, signal) => new Promise((done, fail) => {
  const timer = setTimeout(done, seconds * 1000);
  signal?.addEventListener("abort", () => { clearTimeout(timer); fail(signal.reason); });
});

function request(limit, signal) {
  const { question, tab: modality, where } = view;
  if (question.picture === undefined) {
    const { text, like, box } = question;
    return call("/ui/search", { ...json({ text, like, box, where, modality, limit }), signal });
  }
  const query = new URLSearchParams({ modality, limit, where: JSON.stringify(where) });
  if (question.box) query.set("box", question.box.join());
  const headers = { "Content-Type": "application/octet-stream" };
  return call(`/ui/search?${query}`, { method: "POST", headers, body: pictures.get(question.picture).file, signal });
}

/** Ask; where the server is busy, wait and ask once more; where the model loads, wait until it is there. */
async function patiently(limit, signal) {
  for (let again = 0; ; ) {
    try {
      return await request(limit, signal);
    } catch (error) {
      if (![429, 503].includes(error.status)) throw error;
      const loading = error.status === 503 && !(await call("/ui/info", { signal })).ready;
      if (!loading && again++) throw error;
      say(loading ? TEXT.loading : TEXT.busy(error.waitS));
      await pause(error.waitS, signal);
    }
  }
}

// ---------------------------------------------------------------- state, and the address that holds it

let info = { name: "", counts: { image: 0, text: 0 }, fields: [], ready: true };
let view = { question: null, tab: "image", where: object(), least: null };
const pictures = new Map(); // of this page, by key: {file, shown}

/** An object without a prototype, so that a field may have any name. */
function object(from = {}) {
  return Object.assign(Object.create(null), from);
}

function address() {
  const { question, tab, where, least } = view;
  const to = new URLSearchParams();
  if (question?.text !== undefined) to.set("q", question.text);
  if (question?.like !== undefined) to.set("like", question.like);
  if (question?.picture !== undefined) to.set("picture", question.picture);
  if (question?.box) to.set("box", question.box.join());
  if (Object.keys(where).length) to.set("where", JSON.stringify(where));
  to.set("tab", tab === "text" ? "texts" : "images");
  if (least !== null) to.set("least", least);
  return `${location.pathname}?${to}`;
}

function readAddress() {
  const from = new URLSearchParams(location.search);
  const numbers = (from.get("box") ?? "").split(",").map(Number);
  const box = numbers.length === 4 && numbers.every(Number.isInteger) ? numbers : undefined;
  let question = null;
  if (from.get("q")) question = { text: from.get("q") };
  else if (from.get("like")) question = { like: from.get("like"), box, shown: history.state?.shown };
  else if (from.get("picture")) question = { picture: from.get("picture"), box, shown: pictures.get(from.get("picture"))?.shown };
  const tab = { images: "image", texts: "text" }[from.get("tab")] ?? (info.counts.image || !info.counts.text ? "image" : "text");
  const least = from.get("least") ? Number(from.get("least")) : null;
  let where = object();
  try { where = readWhere(from.get("where") ?? ""); } catch { /* a damaged link: without its filter */ }
  view = { question, tab, where, least: Number.isFinite(least) ? least : null };
}

/** Change the state: a new entry of the history, and a new search. */
function go(change) {
  view = { ...view, ...change };
  history.pushState({ shown: view.question?.shown }, "", address());
  refresh();
}

const ask = (question) => { closeDetail(); scrollTo(0, 0); go({ question, least: null }); };

function refresh() {
  const { question, tab } = view;
  if (question?.text !== undefined || question === null) $("text").value = question?.text ?? "";
  else $("text").value = "";
  document.title = [question?.text ?? question?.shown?.name, info.name].filter(Boolean).join(" · ") || "Search";
  for (const each of ["image", "text"]) {
    $(`tab-${each}`).ariaSelected = String(each === tab);
    $(`tab-${each}`).tabIndex = each === tab ? 0 : -1;
    $(`tab-${each}`).textContent = `${each === "image" ? TEXT.images : TEXT.texts} ${info.counts[each].toLocaleString("en")}`;
  }
  $("results").setAttribute("aria-labelledby", `tab-${tab}`);
  showQuestion();
  showFilters();
  search();
}

// ---------------------------------------------------------------- searching

let asked = 0; // the number of the newest question: an answer to an earlier one is not shown
let running = new AbortController();
let hits = [];
let answered = null; // the last answer's time

async function search(limit = FIRST) {
  const mine = ++asked;
  running.abort();
  running = new AbortController();
  if (limit === FIRST) show([]);
  $("where-error").textContent = "";
  const { question, tab } = view;
  const none = !info.counts[tab];
  $("busy").hidden = true;
  say("");
  if (!info.counts.image && !info.counts.text) return notice(TEXT.empty);
  if (none) return notice(tab === "image" ? TEXT.noImages : TEXT.noTexts, otherTab());
  if (!question) return notice(TEXT.start);
  if (question.picture !== undefined && !pictures.has(question.picture)) return notice(TEXT.lost);
  $("busy").hidden = false;
  say(TEXT.searching);
  try {
    const answer = await patiently(limit, running.signal);
    if (mine !== asked) return;
    answered = answer.took_ms;
    show(answer.hits, limit > FIRST ? hits.length : 0);
  } catch (error) {
    if (mine !== asked) return;
    say("");
    refused(error, () => search(limit));
  }
  $("busy").hidden = true;
}

function refused(error, again) {
  if (error.status === 401) return openDoor();
  if (!(error instanceof Refusal)) return notice(TEXT.gone, [TEXT.tryAgain, again]);
  if (error.field === "where") {
    $("where-error").textContent = error.message;
    openFilters(true);
  }
  notice([TEXT.failed, error.message], [TEXT.tryAgain, again]);
}

const say = (text) => { $("status").textContent = text; };

function notice(texts, button = null) {
  $("notice").replaceChildren();
  if (!texts) return;
  const [heading, ...lines] = texts;
  $("notice").append(make("h2", { textContent: heading }), ...lines.map((textContent) => make("p", { textContent })));
  if (button) {
    const [textContent, onclick] = button;
    $("notice").append(make("p", { className: "row" }, make("button", { type: "button", textContent, onclick })));
  }
}

const otherTab = () => (view.tab === "image" ? [TEXT.showTexts, () => go({ tab: "text" })] : [TEXT.showImages, () => go({ tab: "image" })]);

// ---------------------------------------------------------------- results

let tabbed = null; // the card that the tab key reaches; the arrows move on from it

function show(found, from = 0) {
  hits = found;
  $("hits").className = view.tab === "text" ? "texts" : "";
  const items = found.slice(from).map(item);
  if (from) $("hits").append(...items);
  else $("hits").replaceChildren(...items);
  if (!from) reach(cards()[0] ?? null);
  notice(null);
  if (!found.length) {
    $("slider").hidden = true;
    const filtered = Object.keys(view.where).length;
    if (answered !== null && view.question) notice(TEXT.nothing, filtered ? [TEXT.clearFilters, () => go({ where: object() })] : null);
    return;
  }
  const [most, fewest] = [found[0].score, found.at(-1).score];
  $("slider").hidden = most - fewest < 0.001;
  $("least").min = Math.floor(fewest * 1000) / 1000;
  $("least").max = Math.ceil(most * 1000) / 1000;
  hideBelow();
}

/** Hide what is below the slider's score; nothing is asked again. */
function hideBelow() {
  const least = view.least ?? -Infinity;
  [...$("hits").children].forEach((li, at) => { li.hidden = hits[at].score < least; });
  const shown = hits.filter((hit) => hit.score >= least).length;
  $("least").value = view.least ?? $("least").min;
  $("least-shown").textContent = Number($("least").value).toFixed(3);
  say(TEXT.found(hits.length, shown, answered));
  notice(shown ? null : TEXT.below(hits.length), shown ? null : [TEXT.showAll, () => { view.least = null; hideBelow(); keepAddress(); }]);
  if (tabbed?.closest("li").hidden) reach(cards()[0] ?? null);
}

const keepAddress = () => history.replaceState(history.state, "", address());

function item(hit) {
  const name = make("span", { className: "name", dir: "auto", textContent: hit.name, title: hit.name });
  const score = make("span", { className: "score", textContent: hit.score.toFixed(3), title: TEXT.score(hit.score) });
  const words = hit.content && make("span", { className: hit.modality === "image" ? "words caption" : "words", dir: "auto", textContent: hit.content });
  const picture = hit.modality === "image" ? make("span", { className: "frame" }, thumbnail(hit)) : null;
  const under = make("span", { className: "under" }, name, " ", score);
  const parts = hit.modality === "image" ? [picture, under, words] : [words, under];
  const card = make("button", { className: "card", type: "button", tabIndex: -1, onclick: () => openDetail(hit) }, ...parts);
  card.onfocus = () => reach(card);
  card.hit = hit;
  const like = make("button", { className: "similar", type: "button", tabIndex: -1, textContent: TEXT.similar, onclick: () => moreLike(hit) });
  like.ariaLabel = TEXT.similarTo(hit.name);
  return make("li", {}, card, like);
}

/** A thumbnail that keeps its place while it loads, with its nearest tile outlined. */
function thumbnail(hit) {
  if (!hit.thumb || !hit.size) return missing();
  const [width, height] = hit.size;
  const image = make("img", { loading: "lazy", decoding: "async", alt: "", width, height, draggable: false });
  image.src = `${hit.thumb}&side=${devicePixelRatio > 1 ? 600 : 300}`;
  const shot = make("span", { className: "shot" }, image, hit.box && outline(hit.box, hit.size));
  shot.style.aspectRatio = `${width} / ${height}`;
  shot.style.width = `${100 * Math.min(1, width / height)}%`;
  image.onerror = () => shot.replaceWith(missing());
  return shot;
}

const missing = () => make("span", { className: "missing", textContent: TEXT.missing });

function outline(box, size) {
  return place(make("span", { className: "box" }), fractions(box, size));
}

const fractions = ([left, top, right, bottom], [width, height]) => [left / width, top / height, right / width, bottom / height];

function place(element, [left, top, right, bottom]) {
  const percent = (part) => `${100 * part}%`;
  Object.assign(element.style, { left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top) });
  return element;
}

const cards = () => [...$("hits").querySelectorAll("li:not([hidden]) > .card")];

function reach(card) {
  if (tabbed) tabbed.tabIndex = -1;
  tabbed = card;
  if (card) card.tabIndex = 0;
}

function moveFocus(key) {
  const all = cards();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  const columns = all.filter((card) => card.parentElement.offsetTop === all[0].parentElement.offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  let to = { Home: 0, End: all.length - 1 }[key] ?? at + steps[key];
  if (at < 0) to = Math.max(0, all.indexOf(tabbed));
  if (to >= 0 && to < all.length) all[to].focus();
}

function moreLike(hit) {
  const { id, name, modality, thumb, picture, size, content } = hit;
  ask({ like: id, shown: { id, name, modality, thumb, picture, size, content, box: null, metadata: null } });
}

new IntersectionObserver(([entry]) => {
  const enough = view.least !== null && hits.at(-1)?.score < view.least;
  if (entry.isIntersecting && hits.length === FIRST && !enough) search(MOST);
}, { rootMargin: "800px" }).observe($("more"));

// ---------------------------------------------------------------- the picture that is searched for

function showQuestion() {
  const { question } = view;
  const shown = question?.shown;
  $("question").hidden = !question || question.text !== undefined;
  if ($("question").hidden) return;
  const sample = make("span", { className: "sample" });
  const source = question.picture !== undefined ? shown?.picture : shown?.thumb && `${shown.thumb}&side=300`;
  if (source) {
    const image = make("img", { alt: "", src: source, draggable: false });
    image.onerror = () => sample.remove();
    sample.append(image);
    if (question.box && shown.size) sample.append(outline(question.box, shown.size));
  }
  const kind = question.box ? TEXT.regionOf : question.picture !== undefined ? TEXT.picture : TEXT.like;
  const what = make("span", { className: "what", dir: "auto", textContent: kind + (shown?.name ?? question.like ?? TEXT.record) });
  const region = shown?.picture && shown.size && make("button", { type: "button", textContent: TEXT.region, onclick: () => { openDetail(shown, true); } });
  const remove = make("button", { type: "button", className: "plain", textContent: TEXT.remove, onclick: () => { ask(null); $("text").focus(); } });
  $("question").replaceChildren(...[source ? sample : null, what, region, remove].filter(Boolean));
}

async function takePicture(file) {
  closeDetail();
  if (file.type && !file.type.startsWith("image/")) return notice(TEXT.noPicture(file.name));
  const key = Math.random().toString(36).slice(2);
  const url = URL.createObjectURL(file);
  const shown = { key, name: file.name || TEXT.loadingPicture, modality: "image", picture: url, size: null, box: null, metadata: null };
  const probe = make("img", { src: url });
  try {
    await probe.decode();
    shown.size = [probe.naturalWidth, probe.naturalHeight];
  } catch {
    shown.picture = null; // a format that the server may know and this browser does not
  }
  pictures.set(key, { file, shown });
  ask({ picture: key, shown });
}

// ---------------------------------------------------------------- one result, and a region of it

let opened = null;
let region = null; // [left, top, right, bottom] as parts of the width and height

function openDetail(hit, withRegion = false) {
  opened = hit;
  const { facts } = TEXT;
  const ofQuestion = hit.score === undefined;
  const isImage = hit.modality === "image";
  $("detail-name").textContent = hit.name;
  $("detail-score").textContent = ofQuestion ? "" : TEXT.score(hit.score);
  $("stage").hidden = !isImage;
  $("stage").querySelector(".missing")?.remove();
  $("whole-text").hidden = isImage;
  $("whole-text").textContent = isImage ? "" : hit.content;
  $("like").hidden = hit.id === undefined;
  $("tile").hidden = !hit.box;
  if (isImage) {
    const can = Boolean(hit.picture && hit.size);
    $("stage").style.setProperty("--ratio", can ? hit.size[0] / hit.size[1] : 1);
    $("large").hidden = !can;
    $("large").alt = hit.name;
    $("large").src = can ? hit.picture : "";
    if (can && hit.box) place($("tile"), fractions(hit.box, hit.size));
    if (!can) unshowable();
  }
  const rows = [
    [facts.path, hit.path], [facts.content, isImage ? hit.content : null], [facts.size, hit.size && TEXT.px(hit.size)],
    [facts.box, hit.box && TEXT.boxPx(hit.box)], ...Object.entries(hit.metadata ?? {}), [facts.id, hit.id],
  ];
  $("facts").replaceChildren(...rows.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [
    make("dt", { dir: "auto", textContent: name }),
    make("dd", { dir: "auto", textContent: typeof value === "string" ? value : JSON.stringify(value) }),
  ]));
  const at = hits.indexOf(hit);
  $("before").parentElement.hidden = ofQuestion;
  $("before").disabled = neighbour(at, -1) === undefined;
  $("after").disabled = neighbour(at, 1) === undefined;
  setRegion(null);
  if (!$("detail").open) $("detail").showModal();
  $("detail").querySelector(".facts").scrollTop = 0;
  if (withRegion) startRegion();
}

function unshowable() {
  $("large").hidden = true;
  $("tile").hidden = true;
  if (!$("stage").querySelector(".missing")) $("stage").append(missing());
  setRegion(null);
}

function neighbour(at, step) {
  const next = hits[at + step];
  return next && next.score >= (view.least ?? -Infinity) ? next : undefined;
}

function turn(step) {
  const next = neighbour(hits.indexOf(opened), step);
  if (next && opened.score !== undefined) openDetail(next);
}

function closeDetail() {
  if ($("detail").open) $("detail").close();
}

function setRegion(next) {
  region = next;
  const can = opened.modality === "image" && !$("large").hidden;
  $("region").hidden = !next;
  $("search-region").hidden = !next;
  $("cut").hidden = !can;
  $("cut").textContent = next ? TEXT.noRegion : TEXT.region;
  $("region-help").textContent = !can ? "" : next ? "" : TEXT.regionHelp;
  if (!next) return;
  place($("region"), next);
  $("region").ariaLabel = $("region-help").textContent = TEXT.regionNow(pixels(next));
}

function pixels([left, top, right, bottom]) {
  const [width, height] = opened.size;
  const x = Math.min(width - 1, Math.round(left * width)), y = Math.min(height - 1, Math.round(top * height));
  return [x, y, Math.max(x + 1, Math.round(right * width)), Math.max(y + 1, Math.round(bottom * height))];
}

function startRegion() {
  if (opened.modality !== "image" || $("large").hidden) return;
  setRegion(region ?? (opened.box ? fractions(opened.box, opened.size) : [0.25, 0.25, 0.75, 0.75]));
  $("region").focus();
}

function searchRegion() {
  const box = pixels(region);
  if (opened.key !== undefined) ask({ picture: opened.key, box, shown: opened });
  else {
    const { id, name, modality, thumb, picture, size, content } = opened;
    ask({ like: id, box, shown: { id, name, modality, thumb, picture, size, content, box: null, metadata: null } });
  }
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function moveRegion(key, size, step) {
  const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[key];
  const [left, top, right, bottom] = region;
  if (size) return setRegion([left, top, clamp(right + dx, left + 0.01, 1), clamp(bottom + dy, top + 0.01, 1)]);
  const x = clamp(left + dx, 0, 1 - (right - left)), y = clamp(top + dy, 0, 1 - (bottom - top));
  setRegion([x, y, x + right - left, y + bottom - top]);
}

function followPointer(event) {
  if (event.button !== 0 || $("large").hidden) return;
  event.preventDefault();
  const bounds = $("stage").getBoundingClientRect();
  const part = ({ clientX, clientY }) => [clamp((clientX - bounds.left) / bounds.width, 0, 1), clamp((clientY - bounds.top) / bounds.height, 0, 1)];
  const [x, y] = part(event);
  const held = event.target === $("region") ? region : null;
  $("stage").setPointerCapture(event.pointerId);
  $("stage").onpointermove = (moved) => {
    const [toX, toY] = part(moved);
    if (held) {
      const left = clamp(held[0] + toX - x, 0, 1 - (held[2] - held[0])), top = clamp(held[1] + toY - y, 0, 1 - (held[3] - held[1]));
      setRegion([left, top, left + held[2] - held[0], top + held[3] - held[1]]);
    } else setRegion([Math.min(x, toX), Math.min(y, toY), Math.max(x, toX), Math.max(y, toY)]);
  };
  $("stage").onpointerup = $("stage").onpointercancel = () => {
    $("stage").onpointermove = $("stage").onpointerup = $("stage").onpointercancel = null;
    const isClick = !held && (!region || region[2] - region[0] < 0.01 || region[3] - region[1] < 0.01);
    if (isClick) setRegion(null);
    else $("region").focus();
  };
  if (!held) setRegion(null);
}

// ---------------------------------------------------------------- filters

function readWhere(text) {
  const read = text.trim() ? JSON.parse(text) : {};
  if (read === null || typeof read !== "object" || Array.isArray(read)) throw new SyntaxError(TEXT.anObject);
  return object(read);
}

function setField(name, condition) {
  const where = object(view.where);
  if (condition === undefined) delete where[name];
  else where[name] = condition;
  go({ where });
}

function showFilters() {
  const { where } = view;
  const count = Object.keys(where).length;
  $("filters").textContent = count ? `${TEXT.filters} (${count})` : TEXT.filters;
  $("where").value = count ? JSON.stringify(where) : "";
  const held = document.activeElement?.dataset?.field;
  $("fields").replaceChildren(...info.fields.filter(({ name }) => !["and", "or", "not"].includes(name)).map(fieldset));
  if (held) $("fields").querySelector(`[data-field="${CSS.escape(held)}"]`)?.focus();
}

function fieldset(field, at) {
  const set = make("fieldset", {}, make("legend", { dir: "auto", textContent: field.name }));
  const condition = view.where[field.name];
  const controls = field.type === "number" ? numbers(field, condition)
    : field.type === "boolean" ? yesNo(field, condition)
      : field.values ? values(field, condition) : exact(field, condition);
  set.append(controls);
  [...set.querySelectorAll("input, select")].forEach((control, which) => { control.dataset.field = `${at}-${which}`; });
  return set;
}

function numbers({ name, smallest, largest }, condition) {
  const input = (bound, hint) => make("input", {
    type: "number", step: "any", placeholder: hint ?? "", value: condition?.[bound] ?? "", ariaLabel: `${name}, ${bound === "gte" ? "from" : "to"}`,
  });
  const low = input("gte", smallest), high = input("lte", largest);
  const pair = make("div", { className: "pair" }, low, TEXT.to, high);
  pair.onchange = () => {
    const bounds = {};
    if (low.value !== "") bounds.gte = Number(low.value);
    if (high.value !== "") bounds.lte = Number(high.value);
    setField(name, Object.keys(bounds).length ? bounds : undefined);
  };
  return pair;
}

function yesNo({ name }, condition) {
  const select = make("select", { ariaLabel: name });
  for (const [value, textContent] of [["", TEXT.any], ["true", TEXT.yes], ["false", TEXT.no]]) select.append(make("option", { value, textContent }));
  select.value = typeof condition === "boolean" ? String(condition) : "";
  select.onchange = () => setField(name, select.value === "" ? undefined : select.value === "true");
  return select;
}

function values({ name, values: known }, condition) {
  const chosen = new Set(typeof condition === "string" ? [condition] : Array.isArray(condition?.in) ? condition.in : []);
  const list = make("div", { className: "list" });
  for (const value of known) {
    const box = make("input", { type: "checkbox", checked: chosen.has(value) });
    box.onchange = () => {
      if (box.checked) chosen.add(value);
      else chosen.delete(value);
      setField(name, chosen.size ? { in: [...chosen] } : undefined);
    };
    list.append(make("label", {}, box, make("span", { dir: "auto", textContent: String(value) })));
  }
  return list;
}

function exact({ name }, condition) {
  const input = make("input", { type: "text", ariaLabel: name, placeholder: TEXT.contains, value: typeof condition === "string" ? condition : "" });
  input.onchange = () => setField(name, input.value === "" ? undefined : input.value);
  return input;
}

function openFilters(open) {
  $("filter-panel").hidden = !open;
  $("filters").ariaExpanded = String(open);
}

// ---------------------------------------------------------------- who may look

function openDoor() {
  $("busy").hidden = true;
  say("");
  if (!$("door").open) $("door").showModal();
  $("key").focus();
}

async function enter(body) {
  await call("/ui/session", json(body));
  if ($("door").open) $("door").close();
  $("key").value = "";
  $("door-error").textContent = "";
}

/** Trade the token of the fragment for a session; it does not stay in the address. */
async function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("t");
  if (!token) return;
  history.replaceState(history.state, "", location.pathname + location.search);
  try {
    await enter({ token });
  } catch (error) {
    if (error.status !== 401) throw error; // the next question opens the door
  }
}

async function start() {
  notice(null);
  try {
    await takeToken();
    info = await call("/ui/info");
  } catch (error) {
    return refused(error, start);
  }
  $("name").textContent = info.name;
  $("name").title = [info.name, info.model, info.licence].filter(Boolean).join(" · ");
  readAddress();
  refresh();
  if (!info.ready && !view.question) waitForModel();
}

async function waitForModel() {
  while (!info.ready) {
    if (!view.question) say(TEXT.loading);
    await pause(1);
    try { info.ready = (await call("/ui/info")).ready; } catch { return; } // the next question says what is wrong
  }
  if (!view.question) say("");
}

// ---------------------------------------------------------------- events

$("ask").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) ask({ text });
};
$("choose").onclick = () => $("file").click();
$("file").onchange = () => { if ($("file").files.length) takePicture($("file").files[0]); $("file").value = ""; };
$("tab-image").onclick = () => go({ tab: "image" });
$("tab-text").onclick = () => go({ tab: "text" });
$("tab-image").onkeydown = $("tab-text").onkeydown = (event) => {
  if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  event.stopPropagation();
  go({ tab: view.tab === "image" ? "text" : "image" });
  $(`tab-${view.tab}`).focus();
};
$("filters").onclick = () => openFilters($("filter-panel").hidden);
$("apply").onclick = () => {
  try {
    go({ where: readWhere($("where").value) });
  } catch (error) {
    $("where-error").textContent = TEXT.noJson(error.message);
  }
};
$("clear").onclick = () => go({ where: object() });
$("least").oninput = () => {
  view.least = $("least").value === $("least").min ? null : Number($("least").value);
  hideBelow();
};
$("least").onchange = keepAddress;
$("help").onclick = () => $("keys").showModal();
$("keys-close").onclick = () => $("keys").close();
$("close").onclick = closeDetail;
$("like").onclick = () => moreLike(opened);
$("cut").onclick = () => (region ? setRegion(null) : startRegion());
$("search-region").onclick = searchRegion;
$("before").onclick = () => turn(-1);
$("after").onclick = () => turn(1);
$("large").onerror = unshowable;
$("stage").onpointerdown = followPointer;
$("detail").onclose = () => {
  if (opened.score !== undefined) cards().find((card) => card.hit === opened)?.focus();
};
$("region").onkeydown = (event) => {
  if (event.key === "Enter") searchRegion();
  else if (event.key === "Escape") { setRegion(null); $("cut").focus(); }
  else if (event.key.startsWith("Arrow")) moveRegion(event.key, event.shiftKey, event.altKey ? 0.002 : 0.02);
  else return;
  event.preventDefault();
  event.stopPropagation();
};
$("door").oncancel = (event) => event.preventDefault();
$("door-form").onsubmit = async (event) => {
  event.preventDefault();
  try {
    await enter({ key: $("key").value });
    start();
  } catch (error) {
    $("door-error").textContent = error.status === 401 ? TEXT.wrongKey : error.message;
  }
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const { key, target } = event;
  if (target.matches("input, textarea, select") || $("door").open || $("keys").open) return;
  const does = $("detail").open ? detailKeys(key) : pageKeys(key);
  if (!does) return;
  event.preventDefault();
  does();
});

function detailKeys(key) {
  return {
    m: opened.id === undefined ? null : () => moreLike(opened), r: startRegion, ArrowLeft: () => turn(-1), ArrowRight: () => turn(1),
  }[key];
}

function pageKeys(key) {
  const moves = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];
  if (moves.includes(key)) return hits.length ? () => moveFocus(key) : null;
  const hit = tabbed?.hit;
  return {
    "/": () => { $("text").focus(); $("text").select(); }, "?": () => $("keys").showModal(),
    i: () => go({ tab: "image" }), t: () => go({ tab: "text" }),
    m: hit && (() => moreLike(hit)), r: hit && (() => openDetail(hit, true)),
  }[key];
}

document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  takePicture(file);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) takePicture(file);
  else notice(TEXT.noFile);
});
addEventListener("popstate", () => { closeDetail(); readAddress(); refresh(); });
addEventListener("hashchange", () => { if (location.hash.startsWith("#t=")) start(); });

start();
