// Conversations, kept in this browser alone: {id, title, changed, messages}.
const opened = new Promise((resolve, reject) => {
  const request = indexedDB.open("mmpt", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
async function ask(mode, what) {
  const store = (await opened).transaction("conversations", mode).objectStore("conversations");
  return new Promise((resolve, reject) => {
    const request = what(store);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
export const all = async () => (await ask("readonly", (store) => store.getAll())).sort((a, b) => b.changed - a.changed);
export const keep = (conversation) => ask("readwrite", (store) => store.put(conversation));
export const forget = (id) => ask("readwrite", (store) => store.delete(id));

export function titleOf(messages) {
  const parts = messages.flatMap((message) => message.content);
  const text = parts.find((part) => part.type === "text" && part.text.trim())?.text.trim();
  return text ? text.slice(0, 60) : parts.some((part) => part.type === "input_audio") ? "Spoken" : "Pictures";
}
