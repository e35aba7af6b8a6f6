DROP TABLE post_image;
DROP TABLE post;
