// The original's V2: the server signs a form, and the client uploads straight to the store. Its answers look like those of the Rust
// servers.

import { randomUUID } from 'node:crypto';
import express from 'express';
import { createPresignedPost } from '@aws-sdk/s3-presigned-post';
import { bucket, insert, serve, store } from './shared.mjs';

const client = store('S3_SIGNER_');
const LARGEST = Number(process.env.MAX_IMAGE_BYTES);

await serve((application) => {
  application.post('/user/images', express.json(), async (request, response) => {
    const id = randomUUID();
    const { url, fields } = await createPresignedPost(client, {
      Bucket: bucket,
      Key: `incoming/${id}`,
      Conditions: [
        ['content-length-range', 1, LARGEST],
        { 'Content-Type': request.body.format },
        { success_action_status: '201' },
      ],
      Fields: { 'Content-Type': request.body.format, success_action_status: '201' },
      Expires: 300,
    });
    await insert(`incoming/${id}`);
    response.status(201).json({ imageEntity: { id }, presignedPost: { method: 'POST', url, fields } });
  });
});
