/**
 * Lets one tab at a time exchange the refresh token, and lets the next one know that it was exchanged, however late
 * the storage shows it: Web Locks where the browser has them, else (plain http) IndexedDB, whose transactions are
 * serialised over all tabs just the same.
 *
 * @module
 */

/**
 * What holds while the lock is held.
 * @typedef {object} HeldLock
 * @property {(id: string) => Promise<boolean>} wasExchanged whether a tab has exchanged the tokens of that id
 * @property {(id: string) => Promise<void>} markExchanged
 */

/**
 * @typedef {object} TabLock
 * @property {<T>(work: (lock: HeldLock) => Promise<T>, signal: AbortSignal) => Promise<T>} run rejects with the signal's
 *   reason if the lock cannot be had before
 * @property {() => void} close
 */

/** How long others can learn that tokens were exchanged, in milliseconds: far longer than a storage lags behind. */
const MARK_TIME_MS = 10_000;
/** What a holder gets beyond its time, and for how long it counts as hung after that, in milliseconds. */
const GRACE_MS = 500;
const HUNG_TIME_MS = 600_000;
/** How often a lock in IndexedDB is asked for, in milliseconds. */
const RETRY_INTERVAL_MS = 30;

/**
 * @param {string} name the same in all tabs that share their tokens
 * @param {number} maxHoldTime milliseconds after which who still holds the lock is taken for hung
 * @returns {TabLock}
 */
export function tabLock(name, maxHoldTime) {
  const locks = globalThis.navigator?.locks;
  if (locks) return new WebLock(locks, name);
  try {
    if (globalThis.indexedDB) return new DatabaseLock(globalThis.indexedDB, name, maxHoldTime);
  } catch {
    // Forbidden by the browser's settings.
  }
  return NO_LOCK;
}

/** No way to agree: the gateway gives all tabs the same successor. @type {TabLock} */
const NO_LOCK = {
  run: (work) => work({ wasExchanged: async () => false, markExchanged: async () => {} }),
  close: () => {},
};

/** @implements {TabLock} */
class WebLock {
  #locks;
  #name;
  /** Who held the lock when we waited for it in vain, and when. @type {{holder: string | undefined, at: number} | null} */
  #hung = null;

  /**
   * @param {LockManager} locks
   * @param {string} name
   */
  constructor(locks, name) {
    this.#locks = locks;
    this.#name = name;
  }

  /**
   * @template T
   * @param {(lock: HeldLock) => Promise<T>} work
   * @param {AbortSignal} signal
   * @returns {Promise<T>}
   */
  async run(work, signal) {
    const steal = await this.#isHung();
    const waiting = new AbortController();
    let isGranted = false;
    return new Promise((done, failed) => {
      const hold = () => {
        isGranted = true;
        if (signal.aborted) return undefined;
        const working = work(this.#held);
        working.then(done, failed);
        return working.catch(() => {});
      };
      const stopWaiting = async () => {
        // A running tab has released the lock by now. One that has not is frozen or hangs.
        if (!isGranted) this.#hung = { holder: await this.#holder(), at: Date.now() };
        waiting.abort();
      };
      signal.addEventListener("abort", () => {
        if (isGranted) return;
        failed(signal.reason);
        unref(setTimeout(stopWaiting, GRACE_MS));
      });
      // Rejected although granted: taken from us. The work goes on, and what it brings is judged as any late answer.
      this.#locks
        .request(this.#name, steal ? { steal } : { signal: waiting.signal }, hold)
        .catch((error) => {
          if (isGranted) return;
          if (signal.aborted) failed(error);
          // Forbidden here, as in a document without an origin of its own.
          else NO_LOCK.run(work, signal).then(done, failed);
        });
    });
  }

  close() {}

  /** @type {HeldLock} */
  #held = {
    wasExchanged: async (id) => {
      const { held = [] } = (await this.#locks.query?.()) ?? {};
      return held.some((lock) => lock.name === this.#markName(id));
    },
    // A mark is a lock, too: a tab that gets the first lock later finds it, for both are kept by one process.
    markExchanged: (id) =>
      new Promise((done) => {
        const keep = () => {
          done();
          return new Promise((over) => unref(setTimeout(over, MARK_TIME_MS)));
        };
        Promise.resolve(this.#locks.request(this.#markName(id), { mode: "shared" }, keep)).catch(() => done());
      }),
  };

  /** @param {string} id */
  #markName(id) {
    return `${this.#name}:exchanged:${id}`;
  }

  async #holder() {
    const { held = [] } = (await this.#locks.query?.()) ?? {};
    return held.find((lock) => lock.name === this.#name)?.clientId;
  }

  /** Whether the lock is still held by who has held it for too long: a page that was frozen gives nothing back. */
  async #isHung() {
    if (this.#hung === null || Date.now() - this.#hung.at > HUNG_TIME_MS) return false;
    const holder = await this.#holder();
    return holder !== undefined && holder === this.#hung.holder;
  }
}

/** @implements {TabLock} */
class DatabaseLock {
  #factory;
  #name;
  #maxHoldTime;
  /** @type {Promise<IDBDatabase> | null} */
  #database = null;
  #owner = Math.random().toString(36).slice(2);

  /**
   * @param {IDBFactory} factory
   * @param {string} name
   * @param {number} maxHoldTime
   */
  constructor(factory, name, maxHoldTime) {
    this.#factory = factory;
    this.#name = name;
    this.#maxHoldTime = maxHoldTime;
  }

  /**
   * @template T
   * @param {(lock: HeldLock) => Promise<T>} work
   * @param {AbortSignal} signal
   * @returns {Promise<T>}
   */
  async run(work, signal) {
    let owned;
    try {
      owned = await this.#acquire(signal);
    } catch (error) {
      if (signal.aborted) throw error;
      // A database that cannot be had must not keep anybody from their session.
      return NO_LOCK.run(work, signal);
    }
    try {
      return await work(owned);
    } finally {
      await this.#release().catch(() => {});
    }
  }

  close() {
    this.#database?.then((database) => database.close()).catch(() => {});
    this.#database = null;
  }

  /** @param {AbortSignal} signal @returns {Promise<HeldLock>} */
  async #acquire(signal) {
    for (;;) {
      signal.throwIfAborted();
      const taken = await this.#change((held, now) => {
        // An end that lies too far ahead was written by a clock that has been set back since.
        const isHeld = held !== undefined && held.until > now && held.until <= now + this.#maxHoldTime;
        return isHeld ? undefined : { ...held, owner: this.#owner, until: now + this.#maxHoldTime };
      });
      if (taken !== undefined) {
        return {
          wasExchanged: async (id) => taken.exchanged === id,
          markExchanged: async (id) => {
            await this.#change((held) => (held?.owner === this.#owner ? { ...held, exchanged: id } : undefined));
          },
        };
      }
      await new Promise((done) => setTimeout(done, RETRY_INTERVAL_MS * (0.5 + Math.random())));
    }
  }

  async #release() {
    await this.#change((held) => (held?.owner === this.#owner ? { ...held, until: 0 } : undefined));
  }

  /** @typedef {{owner: string, until: number, exchanged?: string}} LockRecord */

  /**
   * Reads and writes in one transaction.
   * @param {(held: LockRecord | undefined, now: number) => LockRecord | undefined} change nothing: nothing is written
   * @returns {Promise<LockRecord | undefined>} what was written
   */
  async #change(change) {
    const database = await this.#open();
    return new Promise((done, failed) => {
      const transaction = database.transaction("locks", "readwrite");
      const locks = transaction.objectStore("locks");
      /** @type {LockRecord | undefined} */
      let written;
      const read = locks.get(this.#name);
      read.onsuccess = () => {
        written = change(read.result, Date.now());
        if (written !== undefined) locks.put(written, this.#name);
      };
      transaction.oncomplete = () => done(written);
      transaction.onerror = transaction.onabort = () => failed(transaction.error ?? new Error("aborted"));
    });
  }

  /** @returns {Promise<IDBDatabase>} */
  #open() {
    this.#database ??= new Promise((done, failed) => {
      const opening = this.#factory.open("auth-gateway-client", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("locks");
      opening.onerror = opening.onblocked = () => failed(opening.error ?? new Error("blocked"));
      opening.onsuccess = () => {
        const database = opening.result;
        const forget = () => (this.#database = null);
        database.onclose = forget;
        database.onversionchange = () => {
          database.close();
          forget();
        };
        done(database);
      };
    });
    this.#database.catch(() => (this.#database = null));
    return this.#database;
  }
}

/** Node would wait for the timer. @param {unknown} timer */
export function unref(timer) {
  if (typeof timer === "object" && timer !== null) Reflect.get(timer, "unref")?.call(timer);
}
