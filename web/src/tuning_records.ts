/**
 * Keeps tuning records in IndexedDB: named texts, one per device and browser.
 *
 * The worker hands this to Python (`serve/tuning_requests.py`), which knows what the texts mean and
 * ignores what it cannot read. Where IndexedDB is missing or blocked, reading finds nothing.
 */

const DATABASE = "tilewright-tuning";
const TABLE = "records";

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    request.onsuccess = () => resolve(request.result);
    // Plain errors: Pyodide never settles its future for a DOMException made by a script.
    request.onerror = () => reject(new Error(request.error?.message ?? "IndexedDB did not open"));
    request.onblocked = () => reject(new Error("another tab holds an older version"));
  });
}

async function transact<T>(mode: IDBTransactionMode, act: (table: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open();
  try {
    return await new Promise<T>((resolve, reject) => {
      const transaction = database.transaction(TABLE, mode);
      const request = act(transaction.objectStore(TABLE));
      transaction.oncomplete = () => resolve(request.result);
      const fail = () => reject(new Error(transaction.error?.message ?? "IndexedDB refused"));
      transaction.onabort = fail;
      transaction.onerror = fail;
    });
  } finally {
    database.close();
  }
}

/** The text of a name; the empty text where there is none. */
export async function read(name: string): Promise<string> {
  const found: unknown = await transact("readonly", (table) => table.get(name));
  return typeof found === "string" ? found : "";
}

/** Keep a text whole or not at all. */
export async function write(name: string, text: string): Promise<void> {
  await transact("readwrite", (table) => table.put(text, name));
}
