DROP VIEW image_link;
