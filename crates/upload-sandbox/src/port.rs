//! A port of 127.0.0.1 that the kernel will not hand to anyone else for a minute.
//!
//! Some programs must know their port before they start: Postgres has no port 0, and a server's own public URL is one of its
//! settings. If we ask the kernel for a free port and close the listener, any program may get the port. So we leave the port in
//! TIME_WAIT. Then the kernel never chooses it for another program. A program that names the port and sets SO_REUSEADDR, as all
//! of ours do, can have it (<https://github.com/Yelp/ephemeral-port-reserve>).

use std::{
    io::{self, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
};

/// Reserves a free port of 127.0.0.1.
pub fn reserve() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut client = TcpStream::connect(address)?;
    let (accepted, _) = listener.accept()?;
    // The side that closes first is the one that stays in TIME_WAIT.
    drop(accepted);
    client.read_to_end(&mut Vec::new())?;
    Ok(address.port())
}
