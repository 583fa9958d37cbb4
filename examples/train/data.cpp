#include "data.hpp"

#include <algorithm>

#include <moe/io/file_bytes.hpp>

namespace trainer {

Text::Text(const std::string& path, std::size_t length) {
    const moe::FileBytes file = moe::FileBytes::open(path, moe::ReadMode::map);
    bytes_.reserve(file.bytes().size());
    for (const std::byte byte : file.bytes()) {
        bytes_.push_back(std::to_integer<std::int32_t>(byte));
    }
    moe::ensure(held_out().size() > length, moe::ErrorCode::range, path, ": of ", bytes_.size(), " bytes ",
                held_out().size(), " are held out, no more than a sequence of ", length);
}

void Sequences::add(std::span<const std::int32_t> text, std::size_t first, std::size_t without) {
    for (std::size_t t = first; t < first + length_; ++t) {
        tokens_.push_back(text[t]);
        targets_.push_back(t < first + without ? no_target : text[t + 1]);
    }
}

void draw(std::span<const std::int32_t> text, std::uint64_t seed, std::uint64_t step, std::size_t n_sequences,
          std::size_t length, Sequences& into) {
    into.clear();
    const std::uint64_t n_starts = text.size() - length;
    for (std::size_t s = 0; s < n_sequences; ++s) {
        const std::uint64_t bits = moe::random_bits(moe::random_stream(seed, step), s);
        into.add(text, static_cast<std::size_t>(bits % n_starts));
    }
}

template <class T>
double evaluate(Pass<T>& pass, std::span<const std::int32_t> text, std::size_t length, std::size_t n_sequences,
                const moe::ExecutorRef& threads, std::span<moe::RoutingCounts> counts) {
    const std::size_t stride = std::max<std::size_t>(length / 2, 1);
    const std::size_t last = text.size() - 1 - length;  // where the last sequence begins
    Sequences sequences(length);
    double sum = 0;
    std::size_t n_predicted = 0;
    for (std::size_t first = 0; n_predicted < text.size() - 1;) {
        sequences.clear();
        for (std::size_t s = 0; s < n_sequences && n_predicted < text.size() - 1; ++s) {
            sequences.add(text, first, n_predicted - first);
            n_predicted = first + length;
            first = std::min(first + stride, last);
        }
        pass.forward(sequences.batch(), threads);
        for (std::size_t i = 0; i < counts.size(); ++i) {
            counts[i].add(*pass.tapes()[i]);
        }
        for (const double loss : pass.losses(threads)) {
            sum += loss;
        }
    }
    return sum / static_cast<double>(n_predicted);
}

template double evaluate<float>(Pass<float>&, std::span<const std::int32_t>, std::size_t, std::size_t,
                                const moe::ExecutorRef&, std::span<moe::RoutingCounts>);
template double evaluate<double>(Pass<double>&, std::span<const std::int32_t>, std::size_t, std::size_t,
                                 const moe::ExecutorRef&, std::span<moe::RoutingCounts>);

}  // namespace trainer
