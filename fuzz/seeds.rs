//! Writes the seeds of all targets to `corpus/`, where `cargo fuzz` looks for them.

use std::io;
use std::path::Path;

fn write(name: &str, seeds: Vec<Vec<u8>>) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    std::fs::create_dir_all(&folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    println!("{name}: {} seeds", seeds.len());
    Ok(())
}

fn main() -> io::Result<()> {
    for target in halometer::fuzz::TARGETS {
        write(target.name, (target.seeds)())?;
    }
    write("native_and_circuit", halometer_circuits::fuzz::seeds())
}
