// Checks a running op-dbus with @grpc/grpc-js, which is given no option at all.
//
// The target comes by the environment: OPDBUS_GRPC=unix:/run/op-dbus/grpc.sock node check.js
// Ends with 0 if every check holds; otherwise it says which does not. Run `npm ci` first.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const target = process.env.OPDBUS_GRPC;
assert(target, 'OPDBUS_GRPC names the server');

const definition = loader.loadSync([
  'opdbus/v1/agents.proto',
  'opdbus/agent/context_manager/v1/context_manager.proto',
  'opdbus/agent/sequential_thinking/v1/sequential_thinking.proto',
], {
  includeDirs: [path.resolve(__dirname, '../../../proto')],
  keepCase: true,
});
const { opdbus } = grpc.loadPackageDefinition(definition);
const credentials = grpc.credentials.createInsecure();
const client = new opdbus.v1.AgentsService(target, credentials);
const contexts = new opdbus.agent.context_manager.v1.ContextManagerService(target, credentials);
const chains =
  new opdbus.agent.sequential_thinking.v1.SequentialThinkingService(target, credentials);

/** One call: the response, or the error with its status. */
function call(method, request, metadata = new grpc.Metadata(), options = {}, service = client) {
  return new Promise((resolve, reject) => {
    service[method](request, metadata, options, (error, response) =>
      error ? reject(error) : resolve(response));
  });
}

async function checkError(promise, code, text) {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(error.code, code, String(error));
    assert(error.details.includes(text), error.details);
    assert(error.metadata.get('grpc-status-details-bin').length === 1);
    return true;
  });
}

/** Everything that a stream gives, its metadata, and the status that it ends with. */
function collect(stream) {
  return new Promise((resolve) => {
    const got = { messages: [] };
    stream.on('metadata', (metadata) => { got.metadata = metadata; });
    stream.on('data', (message) => got.messages.push(message));
    stream.on('error', () => {});
    stream.on('status', (status) => resolve({ ...got, status }));
  });
}

/** Streams of the probe agent, which only builds for tests have. */
async function checkStreams() {
  const root = path.resolve(__dirname, '../../..');
  const probeDefinition = loader.loadSync('opdbus/agent/probe/v1/probe.proto', {
    includeDirs: [path.join(root, 'proto'), path.join(root, 'tests/data/proto')],
    keepCase: true,
    longs: Number,
  });
  const { ProbeService } = grpc.loadPackageDefinition(probeDefinition).opdbus.agent.probe.v1;
  const probe = new ProbeService(target, grpc.credentials.createInsecure());

  const numbers = await collect(probe.Generate({ count: 5000 }));
  assert.strictEqual(numbers.status.code, grpc.status.OK);
  assert(numbers.metadata.get('opdbus-task-id')[0].length > 8);
  assert.deepStrictEqual(numbers.messages.map((m) => m.number),
    Array.from({ length: 5000 }, (_, n) => n + 1));
  const blocks = await collect(probe.Blocks({ count: 100, size_bytes: 65536 }));
  assert.deepStrictEqual(blocks.messages.map((m) => m.block.length), Array(100).fill(65536));

  const sum = await new Promise((resolve, reject) => {
    const stream = probe.Sum((error, response) => (error ? reject(error) : resolve(response)));
    for (let number = 1; number <= 5000; number += 1) stream.write({ number });
    stream.end();
  });
  assert.strictEqual(sum.sum, 12502500);

  const chat = probe.Chat();
  const said = collect(chat);
  for (let n = 0; n < 500; n += 1) chat.write({ text: String(n).repeat(50) });
  chat.end();
  const { messages, status } = await said;
  assert.strictEqual(status.code, grpc.status.OK);
  assert.deepStrictEqual(messages.map((m) => m.text),
    Array.from({ length: 500 }, (_, n) => String(n).repeat(50)));

  const late = probe.Chat({ deadline: Date.now() + 300 });
  const lateEnd = collect(late);
  late.write({ text: 'a' });
  const { messages: inTime, status: over } = await lateEnd;
  assert.deepStrictEqual([inTime.length, over.code], [1, grpc.status.DEADLINE_EXCEEDED]);

  const large = await collect(probe.Blocks({ count: 2, size_bytes: 100 * 1024 * 1024 }));
  assert.strictEqual(large.status.code, grpc.status.RESOURCE_EXHAUSTED);
  assert(large.status.metadata.get('grpc-status-details-bin').length === 1);

  const given = probe.Blocks({ count: 100000, size_bytes: 65536 });
  const givenUp = collect(given);
  given.once('data', () => given.cancel());
  assert.strictEqual((await givenUp).status.code, grpc.status.CANCELLED);
  probe.close();
}

/** One call without metadata, of another service. */
function callOf(service, method, request) {
  return call(method, request, new grpc.Metadata(), {}, service);
}

/** The main job of the context manager and of sequential thinking. */
async function checkAgents() {
  const name = `grpc-js-${crypto.randomUUID()}`;
  const saved = await callOf(contexts, 'Save', { name, items: [{ text: 'Grüße' }, { text: 'x' }] });
  assert(saved.created && saved.items === 2 && !saved.tokens_exact);
  const loaded = await callOf(contexts, 'Load', { name });
  assert.deepStrictEqual(loaded.items.map((item) => item.text), ['Grüße', 'x']);
  await checkError(
    callOf(contexts, 'Load', { name, scope: 'SCOPE_SESSION' }),
    grpc.status.INVALID_ARGUMENT, 'session-id');
  await callOf(contexts, 'Delete', { name, permanent: true });
  await checkError(callOf(contexts, 'Load', { name }), grpc.status.NOT_FOUND, name);

  const { chain_id } = await callOf(chains, 'StartChain', { problem: 'Why?' });
  await callOf(chains, 'Think', { chain_id, thought: 'Perhaps.', kind: 'STEP_KIND_HYPOTHESIS' });
  await checkError(callOf(chains, 'Conclude', { chain_id }), grpc.status.ABORTED, 'force');
  const ended = await callOf(chains, 'Conclude', { chain_id, force: true });
  assert.strictEqual(ended.conclusion, 'Perhaps.');
  await callOf(chains, 'DeleteChain', { chain_id });
}

async function main() {
  const hello = Buffer.from('hello');
  assert(hello.equals((await call('Ping', { payload: hello })).payload));
  const big = Buffer.alloc(500000, 7);
  assert(big.equals((await call('Ping', { payload: big })).payload));

  const { agents } = await call('ListAgents', {});
  assert(agents.length > 0);
  const described = await call('DescribeAgent', { agent: agents[0].id });
  assert.deepStrictEqual(described.operations.map((o) => o.name), agents[0].operations);
  assert((await call('GetMetrics', {})).text.includes('opdbus_calls_total'));
  const json = { agent: 'agents', operation: 'ping', arguments: '{"payload": "aGk="}' };
  assert((await call('CallJson', json)).result.includes('aGk='));

  // Many headers, each new to the connection's header table.
  for (let number = 0; number < 300; number += 1) {
    const metadata = new grpc.Metadata();
    metadata.set(`x-number-${number}`, String(number).repeat(20));
    assert(hello.equals((await call('Ping', { payload: hello }, metadata)).payload));
  }
  const calls = Array.from({ length: 200 }, (_, n) => call('Ping', { payload: Buffer.from(`${n}`) }));
  (await Promise.all(calls)).forEach((response, n) =>
    assert.strictEqual(response.payload.toString(), `${n}`));

  await checkError(call('DescribeAgent', { agent: 'none' }), grpc.status.NOT_FOUND, 'none');
  const detach = new grpc.Metadata();
  detach.set('opdbus-detach', '1');
  await checkError(
    call('Ping', { payload: hello }, detach), grpc.status.INVALID_ARGUMENT, 'opdbus-detach');
  await checkError(
    call('Ping', { payload: Buffer.alloc(100 * 1024 * 1024) }),
    grpc.status.RESOURCE_EXHAUSTED, 'grpc.max_request_bytes');
  await assert.rejects(
    call('Ping', { payload: hello }, new grpc.Metadata(), { deadline: Date.now() - 1 }),
    { code: grpc.status.DEADLINE_EXCEEDED });
  assert(hello.equals((await call('Ping', { payload: hello })).payload));
  if (agents.some((agent) => agent.id === 'probe')) await checkStreams();
  await checkAgents();
  console.log(`grpc-js: every check holds on ${target}`);
}

const close = () => [client, contexts, chains].forEach((service) => service.close());
main().then(close, (error) => {
  console.error(error);
  process.exitCode = 1;
  close();
});
