// The page: what is typed, attached or spoken goes to the server, what it answers is shown, and conversations are kept.
import { all, forget, keep, titleOf } from "./history.js";
import { $, bytesToBase64, make, pcmOf, shownPart, showParts, soundPart } from "./parts.js";
import { Player } from "./player.js";
import { Voice } from "./voice.js";

let attached = [], running = null, recorder = null, voice = null, able = {};
let conversation = fresh();
function fresh() { return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", changed: 0, messages: [] }; }

fetch("health").then((r) => r.json()).then((h) => {
  $("model").textContent = h.model;
  able = h;
  $("history").checked = h.turns === true;
}).catch(() => {});

// ---- conversations
async function saved(own = conversation) {
  if (!own.messages.length) return;
  Object.assign(own, { changed: Date.now(), title: titleOf(own.messages) });
  try { await keep(own); } catch (problem) { complain(`This conversation is not kept: ${problem.message}`); }
  await list();
}
async function list() {
  const found = await all().catch(() => []);
  $("conversations").replaceChildren(...found.map((one) => {
    const open = make("button", { type: "button", className: "open", textContent: one.title });
    open.onclick = () => show(one);
    const away = make("button", { type: "button", className: "delete", textContent: "×", title: "Delete" });
    away.setAttribute("aria-label", `Delete the conversation ${one.title}`);
    away.onclick = async () => { await forget(one.id); if (one.id === conversation.id) show(fresh()); await list(); };
    const row = make("li", {}, open, away);
    if (one.id === conversation.id) row.setAttribute("aria-current", "true");
    return row;
  }));
}
function show(one) {
  leave();
  conversation = one;
  $("talk").replaceChildren();
  for (const message of one.messages) showParts(turn(message.role), message.content.filter((part) => part.type !== "text" || part.text));
  side(false);
  list();
}
function leave() { running?.stop.abort(); running?.player.stop(); voice?.close(); }
function side(open) {
  document.body.classList.toggle("side", open);
  $("menu").setAttribute("aria-expanded", String(open));
  $("shade").hidden = !open;
}
$("menu").onclick = () => side(!document.body.classList.contains("side"));
$("shade").onclick = () => side(false);
$("new").onclick = () => { show(fresh()); $("text").focus(); };
addEventListener("keydown", (event) => { if (event.key === "Escape") side(false); });
list();

// ---- what goes in
const FORMATS = { "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/x-flac": "flac", "audio/ogg": "ogg" };
async function attach(file) {
  const picture = /^image\/(png|jpeg|webp|gif)$/.test(file.type), format = FORMATS[file.type];
  if (!picture && !format) return complain(`${file.name || "this"}: neither a picture (PNG, JPEG, WebP, GIF) nor a sound (WAV, MP3, FLAC, OGG)`);
  const data = bytesToBase64(new Uint8Array(await file.arrayBuffer()));
  const part = picture ? { type: "image_url", image_url: { url: `data:${file.type};base64,${data}` } } : { type: "input_audio", input_audio: { data, format } };
  add(part, file.name);
}
// One after the other, so that they stand in the order in which they were given.
async function attachAll(files) { for (const file of files) await attach(file); }
function add(part, name) {
  const figure = make("figure"), away = make("button", { type: "button", textContent: "×", title: "Remove" });
  away.setAttribute("aria-label", `Remove ${name}`);
  attached.push(part);
  away.onclick = () => { attached = attached.filter((one) => one !== part); figure.remove(); };
  const earlier = make("button", { type: "button", textContent: "‹", title: "Earlier" });
  earlier.setAttribute("aria-label", `Move ${name} forward`);
  earlier.onclick = () => {
    const at = attached.indexOf(part);
    if (at < 1) return;
    attached.splice(at - 1, 2, part, attached[at - 1]);
    figure.previousElementSibling.before(figure);
  };
  const shown = shownPart(part);
  if (shown.alt) shown.alt = name;
  figure.append(earlier, shown, away);
  $("attached").append(figure);
}
$("record").onclick = async () => {
  if (recorder) return recorder.stop();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const pieces = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => pieces.push(event.data);
    recorder.onstop = async () => {
      stream.getTracks().forEach((track) => track.stop());
      recorder = null;
      $("record").textContent = "Record"; $("record").setAttribute("aria-pressed", "false");
      const context = new AudioContext({ sampleRate: 16000 });
      try {
        const sound = await context.decodeAudioData(await new Blob(pieces).arrayBuffer());
        add(soundPart(sound.getChannelData(0), sound.sampleRate), "recording");
      } finally { context.close(); }
    };
    recorder.start();
    $("record").textContent = "Stop recording"; $("record").setAttribute("aria-pressed", "true");
  } catch (problem) { complain(`No microphone: ${problem.message}`); }
};
$("attach").onclick = () => $("file").click();
$("file").onchange = () => { attachAll([...$("file").files]); $("file").value = ""; };
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("over"); attachAll([...event.dataTransfer.files]); });
addEventListener("paste", (event) => attachAll([...event.clipboardData.files]));

// ---- what comes out
function complain(text) {
  $("talk").append(make("div", { className: "problem", textContent: text, role: "alert" }));
  scroll();
}
function scroll() { $("talk").parentElement.scrollTop = 1e9; }
function turn(role) { return $("talk").appendChild(make("div", { className: `turn ${role}` })); }
function note(box, text) { box.append(make("div", { className: "note", textContent: text })); }
const modalities = () => [...document.querySelectorAll("[name=modality]:checked")].map((one) => one.value);

async function answer(own) {
  const box = turn("assistant"), player = new Player(), shown = {}, parts = {}, ids = {}, stop = new AbortController();
  running = { stop, player };
  const instructions = $("instructions").value.trim(), system = instructions ? [{ role: "system", content: [{ type: "text", text: instructions }] }] : [];
  const body = {
    messages: [...system, ...($("history").checked ? own.messages : own.messages.slice(-1))], stream: true,
    stream_options: { include_usage: true }, return_token_ids: true, modalities: modalities(),
    max_tokens: +$("tokens").value, temperature: +$("temperature").value, guidance: +$("guidance").value, seed: +$("seed").value,
  };
  const headers = { "Content-Type": "application/json" };
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  const begun = performance.now();
  try {
    const response = await fetch("v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal: stop.signal });
    if (!response.ok) throw new Error((await response.json().catch(() => null))?.error?.message ?? `the server says ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", usage = null;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "data: [DONE]") continue;
        const chunk = JSON.parse(line.slice(6));
        if (chunk.error) throw new Error(chunk.error.message);
        usage = chunk.usage ?? usage;
        for (const choice of chunk.choices) take(choice.delta, choice.token_ids);
      }
    }
    if (usage) note(box, `${usage.completion_tokens} tokens, ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    own.messages.push({ role: "assistant", content: said() });
  } catch (problem) {
    if (problem.name !== "AbortError") complain(problem.message);
    else note(box, "stopped");
    if (!Object.keys(parts).length) own.messages.pop();
    else own.messages.push({ role: "assistant", content: said() });
    if (!box.childElementCount) box.remove();
  }
  running = null;
  await saved(own);
  // With the ids in which it was written, so that it is read again in the same.
  function said() { return Object.entries(parts).map(([part, content]) => ({ ...content, ids: ids[part] })); }
  function take(delta, written) {
    if (delta.part === undefined) return;
    const { part, type } = delta;
    ids[part] = [...(ids[part] ?? []), ...(written ?? [])];
    if (type === "text" && delta.content) {
      shown[part] ??= box.appendChild(make("p"));
      parts[part] ??= { type: "text", text: "" };
      shown[part].textContent = parts[part].text += delta.content;
    } else if (type === "image_url") {
      parts[part] = { type, image_url: delta.image_url };
      box.append(shownPart(parts[part]));
    } else if (type === "input_audio" && delta.audio) {
      shown[part] ??= box.appendChild(make("p", { className: "note", textContent: "speaking …" }));
      player.play(part, pcmOf(delta.audio.data), delta.audio.sample_rate);
    } else if (type === "input_audio" && delta.done && player.pieces[part]) {
      const { samples, rate } = player.whole(part);
      parts[part] = soundPart(samples, rate);
      shown[part].replaceWith(shownPart(parts[part]));
    }
    scroll();
  }
}
$("form").onsubmit = async (event) => {
  event.preventDefault();
  if (running) { running.stop.abort(); running.player.stop(); return; }
  const text = $("text").value.trim(), typed = text ? [{ type: "text", text }] : [];
  const content = $("first").checked ? [...typed, ...attached] : [...attached, ...typed];
  if (!content.length) return;
  const own = conversation;
  showParts(turn("user"), content);
  own.messages.push({ role: "user", content });
  $("text").value = ""; attached = []; $("attached").replaceChildren();
  $("send").textContent = "Stop";
  scroll();
  await answer(own);
  $("send").textContent = "Send";
};
$("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); if (!running) $("form").requestSubmit(); }
};

// ---- by voice
$("speak").onclick = async () => {
  if (voice) return;
  leave();
  const own = conversation, boxes = {}, entries = {};
  const speaks = able.speaks !== false && modalities().includes("audio");
  const settings = {
    type: "realtime", instructions: $("instructions").value.trim(), output_modalities: [speaks ? "audio" : "text"],
    max_output_tokens: +$("tokens").value, temperature: +$("temperature").value, seed: +$("seed").value,
    audio: { input: { transcription: able.reads ? {} : null } },
  };
  const part = (item) => entries[item].content.find((one) => one.type === "text") ?? entries[item].content[entries[item].content.push({ type: "text", text: "" }) - 1];
  const text = (item) => boxes[item].querySelector("p") ?? boxes[item].insertBefore(make("p"), boxes[item].firstChild);
  const begin = (role, item, content) => {
    boxes[item] = turn(role);
    own.messages.push(entries[item] = { role, content });
    showParts(boxes[item], content);
    scroll();
  };
  voice = new Voice(settings, $("token").value, {
    state: (said) => { $("state").textContent = said; },
    level: (value) => { $("level").value = value; },
    heard: (item, sound) => begin("user", item, sound ? [sound] : []),
    transcript: (item, said) => { if (said) { part(item).text = said; text(item).textContent = said; } saved(own); },
    answer: (item) => begin("assistant", item, []),
    text: (item, more) => { text(item).textContent = part(item).text += more; scroll(); },
    done: (item, heard, sound) => {
      if (sound) { entries[item].content.push(sound); boxes[item].append(shownPart(sound)); }
      if (heard !== null) note(boxes[item], `broken off, ${heard.toFixed(1)} s heard`);
      scroll();
      saved(own);
    },
    problem: complain,
    closed: () => { voice = null; $("voice").hidden = true; $("form").hidden = false; $("free").checked = false; $("hold").classList.remove("on"); saved(own); },
  });
  $("voice").hidden = false; $("form").hidden = true;
  $("state").textContent = "Connecting …";
  try {
    await voice.open(able.turns ? own.messages : []);
    $("hold").focus();
  } catch (problem) {
    complain(problem.name === "NotAllowedError" || problem.name === "NotFoundError" ? `No microphone: ${problem.message}` : problem.message);
    voice?.close();
  }
};
$("hang").onclick = () => voice?.close();
$("free").onchange = () => { $("hold").disabled = $("free").checked; voice?.handsFree($("free").checked); };
const press = (on) => { $("hold").classList.toggle("on", on); if (on) voice?.press(); else voice?.release(); };
$("hold").onpointerdown = (event) => { $("hold").setPointerCapture(event.pointerId); press(true); };
$("hold").onpointerup = $("hold").onpointercancel = () => press(false);
$("hold").oncontextmenu = (event) => event.preventDefault();
$("hold").onkeydown = (event) => { if ((event.key === " " || event.key === "Enter") && !event.repeat) { event.preventDefault(); press(true); } };
$("hold").onkeyup = (event) => { if (event.key === " " || event.key === "Enter") press(false); };
$("hold").onblur = () => { if (voice?.holding) press(false); };
