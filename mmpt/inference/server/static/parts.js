// Parts of messages: their bytes, and how they are shown. What a model has written is shown as text, never as HTML.
export const $ = (id) => document.getElementById(id);
export const make = (tag, props = {}, ...children) => {
  const found = Object.assign(document.createElement(tag), props);
  found.append(...children);
  return found;
};

export function bytesToBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}
export const base64ToBytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
// Little-endian 16 bits, as OpenAI's interface has sound.
export const pcmOf = (text) => new Int16Array(base64ToBytes(text).buffer);
export const pcmText = (pcm) => bytesToBase64(new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength));

export function joined(pieces, Kind = Float32Array) {
  const all = new Kind(pieces.reduce((n, piece) => n + piece.length, 0));
  pieces.reduce((at, piece) => (all.set(piece, at), at + piece.length), 0);
  return all;
}

export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, value) => [...value].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  const whole = samples instanceof Int16Array;
  samples.forEach((s, i) => view.setInt16(44 + 2 * i, whole ? s : Math.max(-1, Math.min(1, s)) * 32767, true));
  return new Uint8Array(view.buffer);
}
export const soundPart = (samples, rate) => ({ type: "input_audio", input_audio: { data: bytesToBase64(wav(samples, rate)), format: "wav" } });

const MIME = { wav: "audio/wav", mp3: "audio/mpeg", flac: "audio/flac", ogg: "audio/ogg" };
export function shownPart(part) {
  if (part.type === "text") return make("p", { textContent: part.text });
  if (part.type === "image_url") return make("img", { src: part.image_url.url, alt: "picture" });
  const { data, format } = part.input_audio;
  const blob = new Blob([base64ToBytes(data)], { type: MIME[format] ?? "audio/wav" });
  return make("audio", { controls: true, src: URL.createObjectURL(blob) });
}
// Several pictures in a row stand side by side.
export function showParts(box, parts) {
  let row = null;
  for (const [number, part] of parts.entries()) {
    const several = part.type === "image_url" && [parts[number - 1], parts[number + 1]].some((one) => one?.type === "image_url");
    if (several) (row ??= box.appendChild(make("div", { className: "pictures" }))).append(shownPart(part));
    else { row = null; box.append(shownPart(part)); }
  }
}
