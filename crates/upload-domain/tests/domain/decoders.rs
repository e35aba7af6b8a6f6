//! Three decoders that share no code: `image`, Pillow (which has its own header readers) and libvips (which uses libjpeg,
//! libpng or libspng, and libwebp).

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

use image::ImageReader;
use upload_domain::{Dimensions, ImageFormat};

/// What a decoder sees, if it can read the header.
pub type Seen = Option<Dimensions>;

/// A file in a format.
pub type File = (ImageFormat, Vec<u8>);

/// What `image` sees.
pub fn image(files: &[File]) -> Vec<Seen> {
    let seen = |(format, bytes): &File| {
        let mut reader = ImageReader::new(Cursor::new(bytes));
        reader.set_format(match format {
            ImageFormat::Jpeg => image::ImageFormat::Jpeg,
            ImageFormat::Png => image::ImageFormat::Png,
            ImageFormat::Webp => image::ImageFormat::WebP,
        });
        reader.no_limits();
        reader.into_dimensions().ok().map(|(width, height)| Dimensions { width, height })
    };
    files.iter().map(seen).collect()
}

/// What Pillow sees. `None` if it is not installed.
pub fn pillow(files: &[File]) -> Option<Vec<Seen>> {
    const SCRIPT: &str = "
import sys, warnings
from PIL import Image
warnings.simplefilter('ignore')
Image.MAX_IMAGE_PIXELS = None
for path in sys.argv[1:]:
    try:
        with Image.open(path, formats=[path.rsplit('.', 1)[1]]) as image:
            print(path, '%dx%d' % image.size)
    except Exception:
        pass
";
    let has_it = |python: &&str| runs(Command::new(python).args(["-c", "import PIL.Image"]));
    // Try the system's Python, too: apt-get installs Pillow there, even if another Python is first on PATH.
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_it)?;
    Some(asked(files, &[python, "-c", SCRIPT]))
}

/// What libvips sees. `None` if it is not installed.
pub fn libvips(files: &[File]) -> Option<Vec<Seen>> {
    runs(Command::new("vipsheader").arg("--version")).then(|| asked(files, &["vipsheader"]))
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs a command that prints each file's path and, in the next word, its size.
fn asked(files: &[File], command: &[&str]) -> Vec<Seen> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .enumerate()
        .map(|(number, (format, bytes))| {
            let path = folder.path().join(format!("{number}.{}", format.as_str().trim_start_matches("image/")));
            fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let mut seen = vec![None; files.len()];
    for some in paths.chunks(1_000) {
        let output = Command::new(command[0]).args(&command[1..]).args(some).output().unwrap();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut words = line.split_whitespace();
            let number =
                words.next().and_then(|path| Path::new(path.trim_end_matches(':')).file_stem()?.to_str()?.parse().ok());
            let size = words.next().and_then(|size| {
                let (width, height) = size.split_once('x')?;
                Some(Dimensions { width: width.parse().ok()?, height: height.parse().ok()? })
            });
            if let Some(number) = number {
                let number: usize = number;
                seen[number] = size;
            }
        }
    }
    seen
}
