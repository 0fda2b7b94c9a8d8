// As feed_client.py: node feed_client.mjs EXAMPLES SOCKET CHANNEL PSQL CONNINFO
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const [examples, path, channel, psql, conninfo] = process.argv.slice(2);
const { LocalPrompts } = await import(`${examples}/local_prompts.mjs`);
const session = spawn(psql, ['-XqAt', '-d', conninfo], { stdio: ['pipe', 'pipe', 'inherit'] });
const lines = createInterface({ input: session.stdout })[Symbol.asyncIterator]();
let reads = 0;
async function read(key) {
    reads++;
    session.stdin.write(`SELECT json_build_array(prompt, tags) FROM prompt_cache.get_with_tags('${key}');\n`);
    const [prompt, tags] = JSON.parse((await lines.next()).value);
    return { prompt, tags };
}

let done = false;
process.stdin.on('end', () => (done = true)).resume();
const prompts = new LocalPrompts(read, channel, { path });
let gets = 0;
while (!done) {
    await prompts.get(String(1 + Math.floor(Math.random() * 60)));
    gets++;
    await sleep(0.5);
}
console.log(JSON.stringify({ gets, reads, prompts: Object.fromEntries(prompts.snapshot()) }));
prompts.close();
session.kill();
