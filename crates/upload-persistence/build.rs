//! Embedding does not notice a new migration by itself: cargo is told to look at the folder.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
