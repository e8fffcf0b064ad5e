// Sound that is played as it comes, each piece where the one before ends.
import { joined } from "./parts.js";

export class Player {
  constructor(context) { this.context = context ?? new AudioContext(); this.until = 0; this.playing = []; this.pieces = {}; }
  // `part`: which sound this is a piece of.
  play(part, pcm, rate) {
    if (!pcm.length) return;
    const samples = Float32Array.from(pcm, (v) => v / 32768);
    (this.pieces[part] ??= { rate, samples: [] }).samples.push(samples);
    const buffer = this.context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer; source.connect(this.context.destination);
    this.until = Math.max(this.until, this.context.currentTime + 0.05);
    source.start(this.until);
    this.playing.push({ part, source, at: this.until, lasts: buffer.duration });
    this.until += buffer.duration;
  }
  get busy() { return this.until > this.context.currentTime; }
  // Silent at once. Gives the seconds of `part` that were heard, and how long it is.
  stop(part) {
    const now = this.context.currentTime - (this.context.outputLatency || 0);
    const found = { heard: 0, lasts: 0 };
    for (const one of this.playing) {
      if (one.part === part) { found.heard += Math.max(0, Math.min(one.lasts, now - one.at)); found.lasts += one.lasts; }
      one.source.stop();
    }
    this.playing = []; this.until = 0;
    return found;
  }
  whole(part) {
    const { rate, samples } = this.pieces[part];
    return { rate, samples: joined(samples) };
  }
}
