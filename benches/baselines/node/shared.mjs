// What both baselines share: settings as the Rust servers have them, the pool of Postgres, and how they start.

import express from 'express';
import pg from 'pg';
import { S3Client } from '@aws-sdk/client-s3';

export const bucket = process.env.S3_BUCKET;

// Keys are given as to the Rust servers: S3_… is the server's, S3_SIGNER_… signs forms.
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

// One insert for each image, as the original has.
export function insert(key) {
  return pool.query('INSERT INTO node_image (key) VALUES ($1)', [key]);
}

// `routes` adds them to an Express application, which then listens on a free port and says where.
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
