// A conversation by voice over /v1/realtime: hold to talk or hands-free, answers spoken as they come, broken off by who speaks.
import { Player } from "./player.js";
import { base64ToBytes, joined, pcmOf, pcmText, soundPart } from "./parts.js";

const RATE = 24000, REMEMBERED = 150 * RATE;

export class Voice {
  // `settings`: of the session. `show`: {state, level, heard, transcript, answer, text, sound, done, problem, closed}, called as things happen.
  constructor(settings, token, show) {
    Object.assign(this, { settings, token, show, free: false, holding: false, answer: null, dropped: new Set(), spoken: [], sent: 0, first: 0, turn: null });
  }
  async open(messages) {
    this.context = new AudioContext({ sampleRate: RATE });
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
    await this.context.audioWorklet.addModule("static/microphone.js");
    const microphone = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    this.context.createMediaStreamSource(this.stream).connect(microphone);
    microphone.port.onmessage = ({ data }) => this.hear(data);
    this.player = new Player(this.context);
    const address = new URL("v1/realtime", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address, ["realtime", ...(this.token ? [`openai-insecure-api-key.${this.token}`] : [])]);
    this.socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.socket.onclose = () => this.close();
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onerror = () => reject(new Error("the server takes no voice here: a wrong token, or too many sessions"));
    });
    this.send("session.update", { session: { ...this.settings, audio: { input: { turn_detection: null, transcription: this.settings.audio.input.transcription } } } });
    for (const message of messages) {
      const content = await this.content(message);
      if (content.length) this.send("conversation.item.create", { item: { type: "message", role: message.role, content } });
    }
    this.show.state("Hold the button and speak");
  }
  async content({ role, content }) {
    const found = [];
    for (const part of content) {
      if (part.type === "text") found.push({ type: role === "assistant" ? "output_text" : "input_text", text: part.text });
      else if (role === "assistant") continue;
      else if (part.type === "image_url") found.push({ type: "input_image", image_url: part.image_url.url });
      else {
        const sound = await this.context.decodeAudioData(base64ToBytes(part.input_audio.data).buffer);
        found.push({ type: "input_audio", audio: pcmText(Int16Array.from(sound.getChannelData(0), (v) => Math.max(-1, Math.min(1, v)) * 32767)) });
      }
    }
    return found;
  }
  send(type, fields = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }
  close() {
    if (this.closed) return;
    this.closed = true;
    this.quiet();
    this.stream?.getTracks().forEach((track) => track.stop());
    this.socket?.close();
    this.context?.close();
    this.show.closed();
  }

  // ---- what goes in
  hear(pcm) {
    this.show.level(Math.sqrt(pcm.reduce((sum, v) => sum + v * v, 0) / pcm.length) / 8192);
    if (this.socket?.readyState !== WebSocket.OPEN || !(this.free || this.holding)) return;
    this.send("input_audio_buffer.append", { audio: pcmText(pcm) });
    this.spoken.push(pcm); this.sent += pcm.length;
    while (this.sent - this.first > REMEMBERED) this.first += this.spoken.shift().length;
  }
  said(start, end) {
    const all = joined(this.spoken, Int16Array);
    return all.subarray(Math.max(0, start - this.first), Math.max(0, end - this.first));
  }
  handsFree(on) {
    this.free = on;
    const turns = on ? { type: "server_vad" } : null;
    this.send("input_audio_buffer.clear");
    this.send("session.update", { session: { audio: { input: { turn_detection: turns } } } });
    this.show.state(on ? "Listening" : "Hold the button and speak");
  }
  press() {
    if (this.free || this.holding) return;
    this.context.resume();
    this.quiet();
    this.holding = true; this.began = this.sent;
    this.send("input_audio_buffer.clear");
    this.show.state("Speak");
  }
  async release() {
    if (!this.holding) return;
    await new Promise((go) => setTimeout(go, 80)); // what is still in the audio thread
    this.holding = false;
    if (this.sent - this.began < 0.1 * RATE) return this.show.state("Hold the button while you speak");
    this.heard = this.said(this.began, this.sent);
    this.send("input_audio_buffer.commit");
    this.send("response.create");
    this.show.state("Thinking");
  }
  // Whoever speaks is not spoken to: silent at once, and the server is told how much was heard.
  quiet() {
    const answer = this.answer;
    if (!answer || !this.player) return;
    const { heard, lasts } = this.player.stop(answer.item);
    this.dropped.add(answer.response);
    this.answer = null;
    if (!answer.done) this.send("response.cancel", { response_id: answer.response });
    if (lasts && heard < lasts - 0.02) {
      const truncate = () => this.send("conversation.item.truncate", { item_id: answer.item, content_index: 0, audio_end_ms: Math.floor(heard * 1000) });
      if (answer.done) truncate(); else (this.later ??= new Map()).set(answer.response, truncate);
      this.show.done(answer.item, heard);
    } else if (!answer.done) this.show.done(answer.item, heard);
  }

  // ---- what comes out
  take(event) {
    const kind = event.type, late = this.dropped.has(event.response_id);
    if (kind === "error") {
      // What was over in the meantime needs no breaking off.
      if (event.error.code !== "response_cancel_not_active") this.show.problem(event.error.message);
    } else if (kind === "input_audio_buffer.speech_started") {
      this.turn = { start: event.audio_start_ms * RATE / 1000 };
      this.quiet();
      this.show.state("Hearing you");
    } else if (kind === "input_audio_buffer.speech_stopped") {
      this.heard = this.said(this.turn.start, event.audio_end_ms * RATE / 1000);
      this.show.state("Thinking");
    } else if (kind === "input_audio_buffer.committed") {
      this.show.heard(event.item_id, this.heard?.length ? soundPart(this.heard, RATE) : null);
    } else if (kind === "conversation.item.input_audio_transcription.completed") this.show.transcript(event.item_id, event.transcript);
    else if (kind === "response.output_item.added") {
      this.answer = { response: event.response_id, item: event.item.id, done: false };
      this.show.answer(event.item.id);
      this.show.state("Answering");
    } else if ((kind === "response.output_audio_transcript.delta" || kind === "response.output_text.delta") && !late) this.show.text(event.item_id, event.delta);
    else if (kind === "response.output_audio.delta" && !late) this.player.play(event.item_id, pcmOf(event.delta), RATE);
    else if (kind === "response.done") this.ended(event.response);
  }
  ended(response) {
    this.later?.get(response.id)?.();
    this.later?.delete(response.id);
    if (response.status === "failed") this.show.problem(response.status_details.error.message);
    if (this.answer?.response !== response.id) return;
    this.answer.done = true;
    const item = this.answer.item;
    const sound = this.player.pieces[item] ? this.player.whole(item) : null;
    this.show.done(item, null, sound ? soundPart(sound.samples, sound.rate) : null);
    this.show.state(this.free ? "Listening" : "Hold the button and speak");
  }
}
