DROP TABLE image;
DROP TABLE "user";
