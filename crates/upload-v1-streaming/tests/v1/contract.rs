//! The contract of both servers, tested with V1.

upload_contract::contract_tests!(env!("CARGO_BIN_EXE_upload-v1-streaming"), upload_contract::Strategy::Streaming);
