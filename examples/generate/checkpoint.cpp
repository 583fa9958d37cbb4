#include "checkpoint.hpp"

#include <algorithm>
#include <utility>

namespace generate {

namespace {

template <class Sizes>
std::string shape_text(const Sizes& shape) {
    std::string text;
    for (const auto size : shape) {
        text += (text.empty() ? "" : " x ") + std::to_string(size);
    }
    return text;
}

}  // namespace

const moe::TensorView& Checkpoint::tensor(const std::string& name, const std::vector<Eigen::Index>& shape) const {
    const moe::TensorView& found = file_.at(name);
    const bool equal = std::equal(found.shape.begin(), found.shape.end(), shape.begin(), shape.end(),
                                  [](std::size_t a, Eigen::Index b) { return std::cmp_equal(a, b); });
    moe::ensure(equal, moe::ErrorCode::shape, path_, ": tensor ", name, " is ", shape_text(found.shape), ", not ",
                shape_text(shape));
    return found;
}

std::vector<std::int32_t> Checkpoint::tokens(const std::string& name, Eigen::Index vocab_size) const {
    const moe::TensorView& found = file_.at(name);
    moe::ensure(found.shape.size() == 2 && found.shape[0] == 1 && found.shape[1] >= 2, moe::ErrorCode::shape, path_,
                ": tensor ", name, " is ", shape_text(found.shape), ", not 1 x (2 or more)");
    std::vector<std::int32_t> ids = found.to_vector<std::int32_t>();
    for (const std::int32_t id : ids) {
        moe::ensure(id >= 0 && id < vocab_size, moe::ErrorCode::range, path_, ": tensor ", name, " holds the token ",
                    id, ", the vocabulary has ", vocab_size);
    }
    return ids;
}

}  // namespace generate
