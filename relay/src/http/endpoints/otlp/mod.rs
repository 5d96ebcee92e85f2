//! `POST /api/{project}/integration/otlp/v1/{traces,logs}`: OpenTelemetry's own protocol over HTTP, as JSON or protobuf. Spans and
//! logs are counted; nothing stores them yet.
//!
//! Answers are in the format of the request: an empty export response, or a `google.rpc.Status` for an error, whose code is the
//! HTTP status in gRPC's numbers.

mod count;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use picket_common::envelope::ItemType;
use prost::Message as _;

use super::{Segments, segments, unstored};
use crate::http::exchange::Exchange;
use crate::http::{Server, answer, mime};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;
use crate::submission::Taken;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/{project}/integration/otlp/v1/traces", post(traces))
        .route("/api/{project}/integration/otlp/v1/traces/", post(traces))
        .route("/api/{project}/integration/otlp/v1/logs", post(logs))
        .route("/api/{project}/integration/otlp/v1/logs/", post(logs))
}

async fn traces(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    export(Exchange::begin(server, Endpoint::OtlpTraces, request), &segments(path), ItemType::Span).await
}

async fn logs(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    export(Exchange::begin(server, Endpoint::OtlpLogs, request), &segments(path), ItemType::Log).await
}

async fn export(mut exchange: Exchange, project: &str, item_type: ItemType) -> Response<Body> {
    let format = Format::of(mime::of_request(&exchange.head.headers));
    let count = match format {
        Format::Json => count::json,
        Format::Protobuf => count::protobuf,
    };
    let result = unstored::receive(&mut exchange, project, &[JSON, PROTOBUF], item_type, count).await;
    let answer = |taken: Taken| match Refusal::of_limits(&taken.limits) {
        Some(refusal) => format.error(&refusal),
        None => format.success(),
    };
    exchange.end_in(result.map(answer), |refusal| format.error(&refusal)).await
}

/// How a request is written, and its answer.
#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Protobuf,
}

impl Format {
    /// Of what is neither, the answer is JSON.
    fn of(mime: &str) -> Self {
        if mime::is_one_of(mime, &[PROTOBUF]) { Self::Protobuf } else { Self::Json }
    }

    fn success(self) -> Response<Body> {
        match self {
            Self::Json => answer::json(StatusCode::OK, "{}"),
            // A message without fields has no bytes.
            Self::Protobuf => protobuf(StatusCode::OK, Bytes::new()),
        }
    }

    fn error(self, refusal: &Refusal) -> Response<Body> {
        let status = refusal.status();
        let (code, message) = (grpc_code(status), refusal.to_string());
        let mut response = match self {
            Self::Json => answer::json(status, serde_json::json!({ "code": code, "message": message }).to_string()),
            Self::Protobuf => protobuf(status, Bytes::from(RpcStatus { code, message }.encode_to_vec())),
        };
        refusal.tell_when(&mut response);
        response
    }
}

fn protobuf(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    response
}

/// `google.rpc.Status`, less the details.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// gRPC's number for an HTTP status (google/rpc/code.proto).
const fn grpc_code(status: StatusCode) -> i32 {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => 3, // INVALID_ARGUMENT
        StatusCode::REQUEST_TIMEOUT => 4,                                  // DEADLINE_EXCEEDED
        StatusCode::FORBIDDEN => 7,                                        // PERMISSION_DENIED
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8, // RESOURCE_EXHAUSTED
        StatusCode::SERVICE_UNAVAILABLE => 14,                             // UNAVAILABLE
        StatusCode::UNAUTHORIZED => 16,                                    // UNAUTHENTICATED
        _ => 13,                                                           // INTERNAL
    }
}
