//! The proxy's two roles as a program of their own, so that tests can kill them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("proxy-worker") => proxy::worker_main()?,
        Some(path) => {
            let config = serde_json::from_slice(&std::fs::read(path)?)?;
            proxy::holder_main(config)?;
        }
        None => return Err("which role?".into()),
    }
    Ok(())
}
