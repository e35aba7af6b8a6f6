// The original's V1: the file goes through the server. multer parses the form, and multer-s3 passes the file to the SDK's `Upload`.

import { randomUUID } from 'node:crypto';
import multer from 'multer';
import multerS3 from 'multer-s3';
import { bucket, insert, serve, store } from './shared.mjs';

const upload = multer({
  storage: multerS3({
    s3: store('S3_'),
    bucket,
    contentType: multerS3.AUTO_CONTENT_TYPE,
    key: (_request, _file, done) => done(null, `media/${randomUUID()}`),
  }),
});

await serve((application) => {
  application.post('/upload', upload.single('file'), async (request, response) => {
    await insert(request.file.key);
    response.status(201).json({ key: request.file.key });
  });
});
