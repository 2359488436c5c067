// The program of test_node.py: JSON, Buffers and worker threads. Prints nothing that varies.
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function digest(data) {
	return crypto.createHash('sha256').update(data).digest('hex').slice(0, 16);
}

function random(seed) {
	let state = seed;
	return (below) => (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff) % below;
}

function churn(seed) {
	const next = random(seed);
	const hash = crypto.createHash('sha256');
	const kept = [];
	for (let i = 0; i < 1500; i++) {
		const object = { id: i, list: Array.from({ length: next(60) }, () => next(1e6)), text: 'x'.repeat(next(500)) };
		const text = JSON.stringify(object);
		if (JSON.stringify(JSON.parse(text)) !== text) throw new Error('JSON differs');
		hash.update(text);

		// Buffers are malloc's: small ones share a pool, large ones have a block of their own.
		const size = next(20) === 0 ? next(2e6) : next(20000);
		const buffer = Buffer.alloc(size, i & 255);
		kept[next(64)] = buffer;
		const other = kept[next(64)];
		if (other && other.length && other.some((byte) => byte !== other[0])) throw new Error('a buffer changed');
		if (i % 25 === 0) {
			const packed = zlib.gzipSync(Buffer.concat([Buffer.from(text), buffer.subarray(0, 50000)]));
			hash.update(zlib.gunzipSync(packed));
		}
	}
	return hash.digest('hex').slice(0, 16);
}

if (!isMainThread) {
	const shared = Buffer.alloc(300000, workerData.seed);
	parentPort.postMessage({ seed: workerData.seed, result: churn(workerData.seed), buffer: shared.buffer },
		[shared.buffer]); // moved: freed by another thread
} else {
	(async () => {
		console.log('main', churn(1));
		for (let round = 0; round < 2; round++) {
			const results = await Promise.all([2, 3, 4, 5].map((seed) => new Promise((resolve, reject) => {
				const worker = new Worker(__filename, { workerData: { seed } });
				worker.on('message', resolve);
				worker.on('error', reject);
				worker.on('exit', (code) => code && reject(new Error(`worker ends with ${code}`)));
			})));
			for (const { seed, result, buffer } of results)
				console.log('worker', seed, result, digest(Buffer.from(buffer)));
		}
		const packed = await Promise.all(Array.from({ length: 30 }, (_, i) => new Promise((resolve, reject) =>
			zlib.deflate(Buffer.alloc(200000, `part ${i}`), (error, data) => (error ? reject(error) : resolve(data))))));
		console.log('pool', digest(Buffer.concat(packed)));
		if (process.argv[2] && !require('fs').readFileSync('/proc/self/maps', 'latin1').includes(process.argv[2]))
			throw new Error('not on Arenal');
	})();
}
