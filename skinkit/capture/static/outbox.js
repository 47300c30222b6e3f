// Photos that the server has not acknowledged yet. They lie in IndexedDB, so that a closed tab loses none, and are
// removed there as soon as the server has them. Where IndexedDB is refused (a private window), memory is used.

const NAME = "skinkit-capture";
const STORE = "photos";
const memory = new Map();
let opened = null;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function within(mode, act) {
  const base = await database();
  return new Promise((resolve, reject) => {
    const transaction = base.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error);
  });
}

/**
 * Keep a photo: {key, record (id or null), blob, device, taken (ISO time)}.
 *
 * @returns whether it outlives this tab
 */
export async function keep(entry) {
  memory.set(entry.key, entry);
  try {
    await within("readwrite", (store) => store.put(entry));
    return true;
  } catch {
    return false;
  }
}

/** Remove a photo that the server has, or that nobody wants. */
export async function drop(key) {
  memory.delete(key);
  await within("readwrite", (store) => store.delete(key)).catch(() => {});
}

/** Every photo that waits, oldest first. */
export async function waiting() {
  const kept = await within("readonly", (store) => store.getAll()).catch(() => []);
  const all = new Map([...kept.map((entry) => [entry.key, entry]), ...memory]);
  return [...all.values()].sort((a, b) => a.taken.localeCompare(b.taken));
}

/** Ask the browser not to clear the photos when space runs short. */
export function persist() {
  navigator.storage?.persist?.().catch(() => {});
}
