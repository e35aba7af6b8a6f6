DROP TABLE user_profile_image;
