// What both baselines share: the settings of the Rust servers, the Postgres pool, and the start.

import express from 'express';
import pg from 'pg';
import { S3Client } from '@aws-sdk/client-s3';

export const bucket = process.env.S3_BUCKET;

// The keys are those of the Rust servers: S3_… is the server's, and S3_SIGNER_… signs forms.
export function store(prefix) {
  return new S3Client({
    endpoint: process.env.S3_ENDPOINT,
    region: process.env.S3_REGION,
    forcePathStyle: true,
    credentials: {
      accessKeyId: process.env[`${prefix}ACCESS_KEY_ID`],
      secretAccessKey: process.env[`${prefix}SECRET_ACCESS_KEY`],
      sessionToken: process.env[`${prefix}SESSION_TOKEN`] || undefined,
    },
  });
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 8 });

// One insert for each image, as in the original.
export function insert(key) {
  return pool.query('INSERT INTO node_image (key) VALUES ($1)', [key]);
}

// `routes` adds routes to an Express application, which then listens on a free port and prints its address.
export async function serve(routes) {
  await pool.query('CREATE TABLE IF NOT EXISTS node_image (key text PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now())');
  const application = express();
  routes(application);
  const server = application.listen(0, '127.0.0.1', 4096, (error) => {
    if (error) throw error;
    console.log(`listening on http://127.0.0.1:${server.address().port}`);
  });
  process.on('SIGTERM', () => server.close(() => process.exit(0)));
}
