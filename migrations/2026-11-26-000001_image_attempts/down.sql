DROP TABLE image_attempt;
