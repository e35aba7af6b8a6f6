DROP TABLE competition_poster_image;
DROP TABLE competition;
