#pragma once

#include <cstddef>

#include "../../core/alignment.hpp"
#include "../../core/error.hpp"
#include "../../core/overlap.hpp"
#include "../../core/workspace.hpp"
#include "../parts/layer_options.hpp"

/// What every layer asks of the matrices and options of a call. They throw Error that names `layer`, O(1).
namespace moe::inline MOE_ABI::detail {

/// Tokens in, tokens out: both (n_tokens, d_model), aligned to T, not overlapping.
template <class T>
void check_tokens(const char* layer, const MatrixView<const T>& x, const MatrixView<T>& y, std::size_t d_model) {
    ensure(x.cols() == d_model && y.cols() == d_model && x.rows() == y.rows(), ErrorCode::shape, layer, ": x is ",
           x.rows(), " x ", x.cols(), " and y is ", y.rows(), " x ", y.cols(), ", both must be n_tokens x ", d_model);
    require_aligned(x.data(), layer, "x");
    require_aligned(y.data(), layer, "y");
    require_disjoint(layer, "x", x, "y", y);
}

/// Padding: a flag for each of the tokens, or none at all.
template <class T>
void check_valid(const char* layer, const ForwardOptions<T>& options, std::size_t n_tokens) {
    ensure(options.valid.empty() || options.valid.size() == n_tokens, ErrorCode::shape, layer, ": ",
           options.valid.size(), " flags of valid tokens for ", n_tokens, " tokens");
}

/// What gates may read of a token beside its logits.
template <class T>
void check_facts(const char* layer, const ForwardOptions<T>& options, std::size_t n_tokens) {
    ensure(options.token_ids.empty() || options.token_ids.size() == n_tokens, ErrorCode::shape, layer, ": ",
           options.token_ids.size(), " token ids for ", n_tokens, " tokens");
    ensure(options.positions.empty() || options.positions.size() == n_tokens, ErrorCode::shape, layer, ": ",
           options.positions.size(), " positions for ", n_tokens, " tokens");
    require_aligned(options.token_ids.data(), layer, "token_ids");
    require_aligned(options.positions.data(), layer, "positions");
}

/// What a call reads and writes lies outside the memory of its workspace, which it would overwrite; nor is y what the
/// options point to.
template <class T>
void check_apart(const char* layer, const MatrixView<const T>& x, const MatrixView<T>& y,
                 const ForwardOptions<T>& options, const Workspace& workspace) {
    const ByteView ids = bytes_of(options.token_ids);
    const ByteView valid = bytes_of(options.valid);
    const ByteView positions = bytes_of(options.positions);
    refuse_overlap(layer, "the workspace",
                   overlapped(bytes_of(workspace.memory()), {{"x", bytes_of(x)},
                                                             {"y", bytes_of(y)},
                                                             {"the router input", bytes_of(options.router_input)},
                                                             {"token_ids", ids},
                                                             {"valid", valid},
                                                             {"positions", positions}}));
    refuse_overlap(layer, "y",
                   overlapped(bytes_of(y), {{"token_ids", ids}, {"valid", valid}, {"positions", positions}}));
}

}  // namespace moe::inline MOE_ABI::detail
