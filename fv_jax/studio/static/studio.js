// The page: what is asked for, what is shown while it is made, what can be taken away.

import { Film, drawPlace, span } from "./film.js";

const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const OPTIONS = ["inherit", "skip", "levels", "window", "guidance", "temperature"];
const BEGIN = {
  generate: "Choose words, then make a video.",
  interpolate: "Drop a clip, then see its gaps filled.",
  stream: "Choose words, then let it run.",
};
const SLOW = 5; // seconds of the slow repetition
let model, atlas, usual;
let job = null; // { id, source, plan, films, queue, past, batches, begun }
let stream = null;
let upload = null;
let current = 0, playing = false, lastTurn = 0, follow = true;

// ---------------------------------------------------------------- the server

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer.json();
  let message = `the server answered ${answer.status}`;
  try {
    message = (await answer.json()).error || message;
  } catch { /* no JSON: the code says it */ }
  throw new Error(message);
}

const send = (path, value) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });

function listen(path, handlers) {
  const source = new EventSource(path);
  for (const [name, handle] of Object.entries(handlers))
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) handlers.failed({ error: "the server is gone" });
  };
  return source;
}

const picture = (base64) => new Promise((done, failed) => {
  const image = new Image();
  image.onload = () => done(image);
  image.onerror = failed;
  image.src = `data:image/png;base64,${base64}`;
});

// ---------------------------------------------------------------- the form

const mode = () => document.querySelector("[name=mode]:checked").value;

function buildPickers() {
  if (model.sentence) {
    $("pickers").hidden = false;
    for (const words of model.sentence) {
      if (words.length === 1) {
        $("pickers").append(span(words[0]));
        continue;
      }
      const select = document.createElement("select");
      select.setAttribute("aria-label", `one of ${words.join(", ")}`);
      for (const word of words) select.append(new Option(word, word));
      select.addEventListener("change", () => {
        $("prompt").value = pickedSentence();
        wordsChanged();
      });
      $("pickers").append(select);
    }
    const dice = document.createElement("button");
    dice.type = "button";
    dice.textContent = "Surprise me";
    dice.addEventListener("click", () => {
      for (const select of $("pickers").querySelectorAll("select"))
        select.selectedIndex = Math.floor(Math.random() * select.options.length);
      $("prompt").value = pickedSentence();
      wordsChanged();
    });
    $("pickers").append(dice);
  } else if (model.words) {
    $("chips").hidden = false;
    for (const word of model.words) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = word;
      chip.addEventListener("click", () => {
        $("prompt").value = `${$("prompt").value.trim()} ${word}`.trim();
        wordsChanged();
      });
      $("chips").append(chip);
    }
  }
}

const pickedSentence = () =>
  [...$("pickers").children].map((part) => part.tagName === "SELECT" ? part.value : part.tagName === "SPAN" ? part.textContent : "").join(" ").trim();

const plainWords = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}\s]/gu, " ").split(/\s+/).filter(Boolean);

// Marks words that the model never saw, and sets the pickers to what was typed.
function wordsChanged() {
  const words = plainWords($("prompt").value);
  const note = $("words");
  note.replaceChildren();
  if (model.words) {
    const unknown = [...new Set(words.filter((word) => !model.words.includes(word)))];
    if (unknown.length) {
      note.append("The model never saw ");
      unknown.forEach((word, i) => {
        const mark = document.createElement("mark");
        mark.textContent = word;
        note.append(i ? ", " : "", mark);
      });
      note.append(" and will guess.");
    }
  }
  if (model.sentence && words.length === model.sentence.length)
    model.sentence.forEach((choices, i) => {
      const part = $("pickers").children[i];
      if (part.tagName === "SELECT" && choices.includes(words[i])) part.value = words[i];
    });
  remember();
}

function options() {
  const values = {};
  for (const name of OPTIONS) {
    const field = $(name);
    const value = field.type === "checkbox" ? field.checked : Number(field.value);
    if (value !== usual[name]) values[name] = value;
  }
  return values;
}

// The address holds all settings: what differs from the usual, after the sentence and the seed.
function remember() {
  const link = new URLSearchParams({ prompt: $("prompt").value.trim(), seed: $("seed").value, videos: $("videos").value });
  if (mode() !== "generate") link.set("mode", mode());
  for (const [name, value] of Object.entries(options())) link.set(name, value);
  history.replaceState(null, "", `#${link}`);
}

function recall() {
  const link = new URLSearchParams(location.hash.slice(1));
  for (const name of ["prompt", "seed", "videos"]) if (link.has(name)) $(name).value = link.get(name);
  for (const name of OPTIONS) {
    const value = link.has(name) ? link.get(name) : String(usual[name]);
    if ($(name).type === "checkbox") $(name).checked = value === "true";
    else $(name).value = value;
    if (link.has(name)) $("options").open = true;
  }
  const wanted = document.querySelector(`[name=mode][value="${CSS.escape(link.get("mode") || "generate")}"]`);
  if (wanted) wanted.checked = true;
  modeChanged(false);
  wordsChanged();
  return link.has("prompt") && mode() === "generate";
}

function modeChanged(chosen = true) {
  document.body.dataset.mode = mode();
  if (chosen) stop(false);
  $("drop-title").textContent = mode() === "interpolate" ? "A clip" : "First frames";
  $("drop-line").textContent = mode() === "interpolate"
    ? "Drop a video here, or choose one: frames are put between its frames."
    : "Drop a video or picture here, or choose one: the video begins with it.";
  if (chosen) {
    forgetUpload();
    $("status").textContent = BEGIN[mode()];
  }
}

function problem(text = "") {
  $("problem").textContent = text;
}

// ---------------------------------------------------------------- files that are dropped

async function take(file) {
  if (!file || !model) return;
  forgetUpload();
  problem();
  if (file.size > model.limits.bytes) return problem(`At most ${model.limits.bytes >> 20} MB may be sent.`);
  const use = mode() === "interpolate" ? "interpolate" : "first_frames";
  $("status").textContent = `Reading ${file.name} …`;
  try {
    const query = new URLSearchParams({ use, count: $("count").value });
    upload = await ask(`/v1/clips?${query}`, { method: "POST", body: file });
  } catch (error) {
    $("status").textContent = "";
    return problem(`${file.name}: ${error.message}`);
  }
  const sent = $("sent");
  sent.replaceChildren();
  upload.frames.slice(0, 12).forEach((png, i) => {
    const figure = document.createElement("figure"), image = new Image();
    image.src = `data:image/png;base64,${png}`;
    image.alt = `frame ${i + 1} of ${file.name}, as the model sees it`;
    const caption = document.createElement("figcaption");
    caption.textContent = `frame ${i + 1}`;
    figure.append(image, caption);
    sent.append(figure);
  });
  const ids = document.createElement("details"), summary = document.createElement("summary"), list = document.createElement("pre");
  summary.textContent = `Its ids (${upload.ids.length} × ${upload.ids[0].length})`;
  const [, w] = model.grid;
  list.textContent = upload.ids[0].map((id, i) => String(id).padStart(4) + ((i + 1) % w ? "" : "\n")).join("");
  list.tabIndex = 0;
  ids.append(summary, list);
  sent.append(ids);
  sent.hidden = $("forget").hidden = false;
  $("status").textContent = [`${file.name}: ${upload.frames.length} frame${upload.frames.length > 1 ? "s" : ""}.`, ...upload.notes].join(" ");
}

function forgetUpload() {
  upload = null;
  $("file").value = "";
  $("sent").hidden = $("forget").hidden = true;
}

// ---------------------------------------------------------------- making

async function make() {
  problem();
  stop(false);
  remember();
  if (mode() === "stream") return makeStream();
  if (mode() === "interpolate" && !upload) return problem("Drop a clip first, or choose one.");
  const first = Number($("seed").value), count = mode() === "interpolate" ? 1 : Number($("videos").value);
  const asked = {
    prompt: $("prompt").value.trim(), options: options(),
    seeds: Array.from({ length: count }, (_, i) => first + i),
  };
  if (upload) asked[mode() === "interpolate" ? "interpolate" : "first_frames"] = upload.id;
  const begun = performance.now();
  $("status").textContent = "Waiting …";
  let made;
  try {
    made = await send("/v1/videos", asked);
  } catch (error) {
    $("status").textContent = "";
    return problem(error.message);
  }
  job = { id: made.id, films: [], queue: [], past: [], batches: [], bars: [], begun, over: false };
  const mine = job, here = (handle) => (data) => { if (job === mine) handle(data); };
  $("cancel").disabled = false;
  job.source = listen(`/v1/videos/${job.id}/events`, {
    waiting: here(({ ahead }) => { if (ahead) $("status").textContent = `Waiting: ${ahead} before this one …`; }),
    plan: here(planned),
    batch: here(({ level }) => {
      mine.batches.push({ level, at: performance.now(), decided: 0, steps: 0 });
      $("status").textContent = `${stage(level)}: what is new here is compiled once …`;
    }),
    ids: here((data) => mine.queue.push(...data.places.map((place, i) => ({ video: data.video, frame: data.frame, place, id: data.ids[i] })))),
    mask: here(({ video, frame, places }) => mine.films[video]?.setMask(frame, places)),
    pixels: here(async (data) => {
      const entry = { ...data, picture: null };
      mine.queue.push(entry);
      entry.picture = await picture(data.png);
    }),
    steps: here(({ level, steps, decided }) => {
      const batch = mine.batches.at(-1), more = steps - batch.steps;
      if (steps) $("status").textContent = `${stage(level)} …`;
      if (more > 0) mine.bars.push({ rate: decided / more, level });
      Object.assign(batch, { steps, decided: batch.decided + decided });
      chart();
      numbers();
    }),
    stats: here((stats) => { mine.stats = stats; numbers(); }),
    done: here(() => over(`Done in ${((performance.now() - begun) / 1000).toFixed(2)} s.`, true)),
    failed: here(({ error }) => { over("", false); problem(error); }),
    canceled: here(() => over("Stopped.", false)),
  });
}

const stage = (level) => level < 0 ? "Key frames" : `Filling the gaps, level ${level + 1}`;

function layOut(plan) {
  const films = plan.seeds.map((seed) => new Film(plan, model, atlas, `seed ${seed}`));
  films.forEach((film) => film.element.classList.toggle("only", films.length === 1));
  $("films").replaceChildren(...films.map((film) => film.element));
  $("scrub").max = plan.frames - 1;
  return films;
}

// Before anything is asked for: as large as what will be there, so that nothing jumps.
function layOutNothing() {
  const step = model.insert.reduce((all, n) => all * (n + 1), 1), frames = (model.key_frames - 1) * step + 1;
  layOut({
    grid: model.grid, size: model.size, frames, seeds: Array.from({ length: Number($("videos").value) }, (_, i) => Number($("seed").value) + i),
    key_frames: Array.from({ length: model.key_frames }, (_, i) => i * step),
  }).forEach((film) => film.draw(0, false));
}

function planned(plan) {
  job.plan = plan;
  job.films = layOut(plan);
  for (const film of job.films)
    film.strip.addEventListener("click", (event) => {
      if (event.target.dataset.frame === undefined) return;
      follow = setPlaying(false);
      go(Number(event.target.dataset.frame));
    });
  $("notes").replaceChildren(...plan.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  $("scrub").disabled = $("play").disabled = $("copy-command").disabled = false;
  $("status").textContent = "Beginning …";
  follow = true;
  setPlaying(false);
  go(0);
}

function over(status, whole) {
  job.source.close();
  job.over = true;
  $("cancel").disabled = true;
  $("status").textContent = status;
  if (!whole) return;
  $("slowly").disabled = false;
  job.films.forEach((film, video) => {
    film.large.setAttribute("aria-label", `${job.plan.prompt || "interpolated"}, seed ${job.plan.seeds[video]}`);
    const links = film.caption.lastChild;
    links.replaceChildren();
    for (const kind of ["mp4", "gif", "npz"]) {
      const link = document.createElement("a");
      link.href = `/v1/videos/${job.id}/file?video=${video}&format=${kind}&scale=4`;
      link.textContent = kind;
      link.setAttribute("aria-label", `download seed ${job.plan.seeds[video]} as ${kind}`);
      link.download = "";
      links.append(link);
    }
  });
}

function stop(tell = true) {
  const [running, kind] = stream ? [stream, "streams"] : [job, "videos"];
  if (running && !running.over) {
    running.source?.close();
    fetch(`/v1/${kind}/${running.id}`, { method: "DELETE", keepalive: true });
    running.over = true;
    if (tell) $("status").textContent = "Stopped.";
  }
  if (stream) endStream();
  $("cancel").disabled = $("slowly").disabled = true;
}

// ---------------------------------------------------------------- drawing

// Ids come in pieces; they are laid down over some frames of the screen, in the order in which
// they were decided.
function lay(now) {
  if (!job?.plan) return;
  const items = job.slow ? job.slow.items : job.queue;
  let count = still.matches ? items.length : Math.ceil(items.length / 8);
  if (job.slow) count = Math.floor((now - job.slow.from) / 1000 / SLOW * job.slow.total) - job.slow.done;
  let moved = null;
  const touched = new Set();
  while (count-- > 0 && items.length) {
    const item = items[0], film = job.films[item.video];
    if (item.png !== undefined) {
      if (!item.picture) break; // it is decoded in a moment
      item.frames.forEach((f, i) => film.show(f, item.picture, i));
      item.frames.forEach((f) => touched.add(`${item.video} ${f}`));
    } else {
      film.decide(item.frame, item.place, item.id);
      touched.add(`${item.video} ${item.frame}`);
      moved = item.frame;
    }
    items.shift();
    if (job.slow) job.slow.done += 1;
    else job.past.push(item);
  }
  for (const [video, f] of [...touched].map((text) => text.split(" ").map(Number))) job.films[video].drawSmall(f);
  if (job.slow && !items.length) {
    job.slow = null;
    $("slowly").textContent = "Watch again, slowly";
  }
  if (moved !== null && follow) current = moved;
  if (touched.size) paint();
  if (follow && job.over && !items.length && !job.slow) {
    follow = false;
    if (!still.matches) setPlaying(true);
    else go(0);
  }
}

function turn(now) {
  lay(now);
  if (playing && job?.plan && now - lastTurn >= 1000 / Math.min(job.plan.fps, 60)) {
    lastTurn = now;
    let next = current;
    do next = (next + 1) % job.plan.frames;
    while (next !== current && !job.films.every((film) => film.whole(next)));
    if (next !== current) go(next);
  }
  requestAnimationFrame(turn);
}

function go(frame) {
  current = frame;
  paint();
}

function paint() {
  if (!job?.plan) return;
  for (const film of job.films) film.draw(current, $("overlay").checked);
  $("scrub").value = current;
  const key = job.films[0].keys.has(current) ? ", key frame" : "";
  const text = `frame ${current + 1} of ${job.plan.frames}`;
  $("at").textContent = text;
  $("scrub").setAttribute("aria-valuetext", text + key);
}

function setPlaying(on) {
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", on);
  return on;
}

function chart(values = job.bars.map((bar) => bar.rate), levels = job.bars.map((bar) => bar.level)) {
  const canvas = $("chart"), ratio = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const c = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const most = Math.max(...values, 1), width = canvas.width / Math.max(values.length, 24);
  values.forEach((value, i) => {
    const height = Math.max(value / most * (canvas.height - 2 * ratio), ratio);
    c.fillStyle = style.getPropertyValue(levels[i] < 0 ? "--ink" : "--accent");
    c.fillRect(i * width, canvas.height - height, Math.max(width - 2 * ratio, 1), height);
  });
}

function numbers() {
  const { batches, films, stats, plan } = job;
  const sum = (name) => batches.reduce((total, batch) => total + batch[name], 0);
  const steps = sum("steps"), decided = sum("decided");
  const last = job.bars.at(-1);
  const parts = [`${steps} steps`, `${(last?.rate ?? 0).toFixed(1)} ids a step now`];
  if (stats) {
    const seconds = (stats.seconds.sample || 0) + (stats.seconds.decode || 0);
    const free = films.reduce((total, film) => total + film.frames.reduce((n, { mask }) => n + [...(mask || "")].filter((d) => d === "3").length, 0), 0);
    parts[1] = `${(stats.sampled / stats.steps).toFixed(1)} ids a step`;
    parts.push(`${stats.sampled} ids sampled`, `${free} inherited`, `${stats.fed} tokens fed`,
      `${(1000 * seconds / plan.frames / plan.seeds.length).toFixed(1)} ms a frame`);
    if (stats.seconds.compile) parts.push(`${stats.seconds.compile.toFixed(1)} s compiling, once`);
  } else parts.push(`${decided} ids decided`);
  $("numbers").textContent = `${parts.join(" · ")}. Bars: ids a step (dark: key frames, green: gaps).`;
}

function slowly() {
  if (!job?.over || job.slow) return;
  setPlaying(false);
  job.films.forEach((film) => film.clear());
  const items = [...job.past, ...job.queue];
  job.queue = [];
  job.past = [...items];
  job.slow = { items: [...items], total: items.length, done: 0, from: performance.now() };
  follow = true;
  $("slowly").textContent = "Watching …";
}

// ---------------------------------------------------------------- streams

async function makeStream(fork) {
  let made;
  try {
    made = fork
      ? await send(`/v1/streams/${fork}/fork`, { prompt: $("prompt").value.trim(), seed: Number($("seed").value) })
      : await send("/v1/streams", { prompt: $("prompt").value.trim(), seeds: [Number($("seed").value)], options: options() });
  } catch (error) {
    return problem(error.message);
  }
  if (fork) stop(false);
  job = null;
  stream = { id: made.id, frames: [], memory: [], shown: 0, over: false, paused: false };
  const mine = stream, here = (handle) => (data) => { if (stream === mine) handle(data); };
  const film = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
  film.className = "film only";
  canvas.className = "large";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `a stream: ${$("prompt").value}`);
  film.append(canvas, caption);
  $("films").replaceChildren(film);
  $("stream-tools").hidden = false;
  $("save").href = `/v1/streams/${stream.id}/state`;
  $("cancel").disabled = false;
  $("status").textContent = "Preparing …";
  stream.source = listen(`/v1/streams/${stream.id}/events`, {
    plan: here((plan) => {
      mine.plan = plan;
      [canvas.height, canvas.width] = plan.size;
      $("status").textContent = `“${plan.prompt}”, without end.`;
      mine.draw = setInterval(show, 1000 / Math.min(plan.fps, 60));
    }),
    frame: here(async (data) => {
      mine.frames.push(data);
      data.picture = await picture(data.png);
    }),
    failed: here(({ error }) => { mine.over = true; mine.source.close(); problem(error); }),
    canceled: here(() => { mine.over = true; mine.source.close(); $("status").textContent = "Stopped."; }),
  });
  function show() {
    const frame = mine.frames[0];
    if (mine.paused || !frame?.picture) return;
    mine.frames.shift();
    canvas.getContext("2d").drawImage(frame.picture, 0, 0);
    caption.textContent = `frame ${frame.index + 1}${frame.key_frame ? ", key frame" : ""} · round ${frame.round + 1} · ${Math.round(100 * frame.inherited)}% inherited`;
    mine.memory.push((frame.resident || frame.state) / 1e6);
    if (mine.memory.length > 200) mine.memory.shift();
    chart(mine.memory, mine.memory.map(() => -1));
    $("numbers").textContent = `State ${(frame.state / 1e6).toFixed(3)} MB, the same for ever` + (frame.resident ? ` · the whole server ${(frame.resident / 1e6).toFixed(0)} MB. Bars: its memory, frame by frame.` : ".");
  }
}

function endStream() {
  clearInterval(stream.draw);
  stream = null;
  $("stream-tools").hidden = true;
}

async function pauseStream() {
  const paused = !stream.paused;
  await send(`/v1/streams/${stream.id}/${paused ? "pause" : "resume"}`, {});
  stream.paused = paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", paused);
}

// ---------------------------------------------------------------- begin

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    $("copied").textContent = `${what} is copied.`;
  } catch {
    $("copied").textContent = text;
  }
}

function connect() {
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); make(); });
  $("ask").addEventListener("change", remember);
  $("prompt").addEventListener("input", wordsChanged);
  document.querySelectorAll("[name=mode]").forEach((one) => one.addEventListener("change", () => { modeChanged(); remember(); }));
  $("file").addEventListener("change", () => take($("file").files[0]));
  $("forget").addEventListener("click", () => { forgetUpload(); $("file").focus(); });
  for (const kind of ["dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  $("cancel").addEventListener("click", () => stop());
  $("play").addEventListener("click", () => { follow = false; setPlaying(!playing); });
  $("scrub").addEventListener("input", () => { follow = setPlaying(false); go(Number($("scrub").value)); });
  $("overlay").addEventListener("change", paint);
  $("slowly").addEventListener("click", slowly);
  $("copy-command").addEventListener("click", () => copy(job?.plan.command ?? "", "The command"));
  $("copy-link").addEventListener("click", () => { remember(); copy(location.href, "The link"); });
  $("pause").addEventListener("click", pauseStream);
  $("fork").addEventListener("click", () => makeStream(stream.id));
  addEventListener("hashchange", () => { if (recall()) make(); });
  for (const one of $("keys").querySelectorAll("canvas"))
    drawPlace(one.getContext("2d"), Number(one.dataset.place), 0, 0, 18);
}

async function begin() {
  connect();
  try {
    model = await ask("/v1/model");
  } catch (error) {
    return problem(error.message);
  }
  usual = model.options;
  atlas = model.patches && await picture(model.patches.png);
  const [h, w] = model.size;
  $("model").textContent = `${model.name}: ${(model.parameters / 1e6).toFixed(1)} M parameters, ${w}×${h} px, ${model.key_frames} key frames`;
  $("count").max = model.key_frames;
  document.querySelector(".for-skip").hidden = !model.skip;
  buildPickers();
  if (model.sentence && !location.hash) $("prompt").value = "a small red circle moves left over stripes";
  const link = location.hash.includes("prompt=");
  const run = recall();
  layOutNothing();
  requestAnimationFrame(turn);
  document.body.dataset.ready = "";
  if (link && run) make();
}

begin();
