//! One HTTP/1.1 connection, driven by the task that waits for the answer: no second task, no wake-up of another thread.

use std::{fmt, pin::pin};

use futures::{
    future::{Either, select},
    poll,
};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::{Answer, Endpoint, Failure, body::Pieces, stream::CountedStream};

pub struct Connection {
    /// Where it leads.
    pub authority: String,
    sender: SendRequest<Pieces>,
    driver: Driver,
}

struct Driver {
    connection: http1::Connection<TokioIo<CountedStream>, Pieces>,
    has_ended: bool,
}

impl Driver {
    /// Notices if the other side has closed the idle connection.
    async fn look(&mut self) {
        self.has_ended = self.has_ended || poll!(&mut self.connection).is_ready();
    }

    /// Drives the connection until `work` is done.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let work = pin!(work);
        if self.has_ended {
            return work.await;
        }
        match select(work, &mut self.connection).await {
            Either::Left((done, _)) => done,
            // hyper reports the end of the connection to `work`.
            Either::Right((_, work)) => {
                self.has_ended = true;
                work.await
            }
        }
    }
}

impl Connection {
    pub async fn open(endpoint: &Endpoint, stream: CountedStream) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = Driver { connection, has_ended: false };
        Ok(Self { authority: endpoint.authority.clone(), sender, driver })
    }

    /// Whether another request can be sent.
    pub async fn is_ready(&mut self) -> bool {
        self.driver.look().await;
        !self.driver.has_ended && self.driver.drive(self.sender.ready()).await.is_ok()
    }

    /// Sends a request and reads its answer, which may come before the whole body was sent.
    pub async fn exchange(&mut self, request: Request<Pieces>) -> Result<Answer, Failure> {
        let answer = async {
            let response: Response<Incoming> = self.sender.send_request(request).await.map_err(Failure::connection)?;
            Answer::read(response).await
        };
        self.driver.drive(answer).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Connection({})", self.authority)
    }
}
