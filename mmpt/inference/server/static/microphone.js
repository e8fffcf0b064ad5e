// In the audio thread: what the microphone hears, in pieces of 40 ms as 16 bits.
class Microphone extends AudioWorkletProcessor {
  constructor() { super(); this.piece = new Int16Array(0.04 * sampleRate); this.at = 0; }
  process([[samples]]) {
    for (const value of samples ?? []) {
      this.piece[this.at++] = Math.max(-1, Math.min(1, value)) * 32767;
      if (this.at === this.piece.length) { this.port.postMessage(this.piece.slice()); this.at = 0; }
    }
    return true;
  }
}
registerProcessor("microphone", Microphone);
