//! The contract of both servers, tested with V2.

upload_contract::contract_tests!(env!("CARGO_BIN_EXE_upload-v2-presigned"), upload_contract::Strategy::Presigned);
