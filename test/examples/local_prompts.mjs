// Prompts in a Map of this process, kept right by the invalidation channel of prompt_cache.
//
//     const prompts = new LocalPrompts(read, channel, { host: '127.0.0.1', port: 6379 });
//     await prompts.get('42');
//
// read(key) resolves to { prompt, tags }, as `SELECT * FROM prompt_cache.get_with_tags($1)` does on the primary, and
// channel is what `SELECT prompt_cache.invalidation_channel()` says. Only Node itself is used; a client library's
// subscription does as well.
//
// A message is {"epoch": text, "seq": number, "tags": [text, ...]}. It comes after the change is visible. One comes each
// second at least. Whatever is not the next number of the same epoch, and silence, means that something was missed:
// everything is forgotten. While nothing is heard nothing is kept, and every get() reads.
import net from 'node:net';

const SILENCE = 3000;     // milliseconds without a message: the connection is taken for dead
const MOST_TAGS = 100000; // remembered for reads that are under way

export class LocalPrompts {
    #prompts = new Map(); // key -> { prompt, tags }
    #keys = new Map();    // tag -> Set of keys
    #dropped = new Map(); // tag -> clock when it was named last
    #clock = 0;           // counts what was heard
    #forgot = 0;          // clock when everything was forgotten
    #next = null;         // { epoch, seq } of the next message; null: nothing is heard
    #closed = false;
    #socket = null;

    constructor(read, channel, { user, password, ...address } = {}) {
        this.read = read;
        this.channel = channel;
        this.address = address;
        this.login = [user, password].filter(Boolean);
        this.#listen();
    }

    async get(key) {
        const known = this.#prompts.get(key);
        if (known) return known.prompt;
        const began = this.#clock;
        const { prompt, tags } = await this.read(key);
        // What was named while it was read may be missing in it.
        if (this.#next && began >= this.#forgot && tags.every((tag) => (this.#dropped.get(tag) ?? 0) <= began)) {
            this.#prompts.set(key, { prompt, tags });
            for (const tag of tags) {
                if (!this.#keys.has(tag)) this.#keys.set(tag, new Set());
                this.#keys.get(tag).add(key);
            }
        }
        return prompt;
    }

    snapshot() {
        return new Map([...this.#prompts].map(([key, { prompt }]) => [key, prompt]));
    }

    close() {
        this.#closed = true;
        this.#socket?.destroy();
    }

    #forgetEverything() {
        this.#forgot = ++this.#clock;
        this.#prompts.clear();
        this.#keys.clear();
        this.#dropped.clear();
    }

    #hear({ epoch, seq, tags }) {
        if (this.#next?.epoch !== epoch || this.#next?.seq !== seq || this.#dropped.size > MOST_TAGS) this.#forgetEverything();
        this.#next = { epoch, seq: seq + 1 };
        if (tags.length === 0) return;
        this.#clock++;
        for (const tag of tags) {
            this.#dropped.set(tag, this.#clock);
            for (const key of this.#keys.get(tag) ?? []) {
                for (const other of this.#prompts.get(key)?.tags ?? []) if (other !== tag) this.#keys.get(other)?.delete(key);
                this.#prompts.delete(key);
            }
            this.#keys.delete(tag);
        }
    }

    #listen() {
        const socket = net.connect(this.address);
        this.#socket = socket;
        let bytes = Buffer.alloc(0);
        socket.setTimeout(SILENCE, () => socket.destroy());
        socket.on('connect', () => {
            if (this.login.length) socket.write(command('AUTH', ...this.login));
            socket.write(command('SUBSCRIBE', this.channel));
        });
        socket.on('data', (more) => {
            bytes = Buffer.concat([bytes, more]);
            try {
                for (let reply = parse(bytes, 0); reply; reply = parse(bytes, 0)) {
                    bytes = bytes.subarray(reply.end);
                    if (reply.value[0] === 'message') this.#hear(JSON.parse(reply.value[2]));
                }
            } catch {
                socket.destroy();
            }
        });
        socket.on('error', () => {});
        socket.on('close', () => {
            this.#next = null;
            this.#forgetEverything();
            if (!this.#closed) setTimeout(() => this.#listen(), 200);
        });
    }
}

function command(...words) {
    return `*${words.length}\r\n` + words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('');
}

// One reply with the place where it ends; null while it is not whole.
function parse(bytes, at) {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) return null;
    const kind = String.fromCharCode(bytes[at]);
    const rest = bytes.toString('utf8', at + 1, end);
    if (kind === '-') throw new Error(rest);
    if (kind === '$') {
        const stop = end + 2 + Number(rest);
        return bytes.length < stop + 2 ? null : { value: bytes.toString('utf8', end + 2, stop), end: stop + 2 };
    }
    if (kind !== '*') return { value: rest, end: end + 2 };
    const value = [];
    let next = end + 2;
    for (let i = 0; i < Number(rest); i++) {
        const element = parse(bytes, next);
        if (!element) return null;
        value.push(element.value);
        next = element.end;
    }
    return { value, end: next };
}
