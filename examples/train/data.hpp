#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pass.hpp"

namespace trainer {

/// The bytes of a file, of which the last twentieth is held out.
class Text {
public:
    /// Throws moe::Error: a file that cannot be read, or too short for one sequence of `length` tokens in either part.
    Text(const std::string& path, std::size_t length);

    [[nodiscard]] std::span<const std::int32_t> all() const noexcept { return bytes_; }
    [[nodiscard]] std::span<const std::int32_t> training() const noexcept {
        return std::span<const std::int32_t>(bytes_).first(bytes_.size() - n_held_out());
    }
    [[nodiscard]] std::span<const std::int32_t> held_out() const noexcept {
        return std::span<const std::int32_t>(bytes_).last(n_held_out());
    }

private:
    [[nodiscard]] std::size_t n_held_out() const noexcept { return bytes_.size() / 20; }

    std::vector<std::int32_t> bytes_;
};

/// Sequences and what follows each of their tokens.
class Sequences {
public:
    explicit Sequences(std::size_t length) : length_(length) {}

    void clear() noexcept {
        tokens_.clear();
        targets_.clear();
    }
    /// The `length` tokens of `text` that begin with `first`, of which the first `without` predict nothing.
    void add(std::span<const std::int32_t> text, std::size_t first, std::size_t without = 0);

    /// Valid until the next call of add or clear.
    [[nodiscard]] Batch batch() const noexcept { return {tokens_, targets_, tokens_.size() / length_}; }

private:
    std::size_t length_;
    std::vector<std::int32_t> tokens_;
    std::vector<std::int32_t> targets_;
};

/// The batch of a step: `n_sequences` that begin anywhere in `text`. Depends on seed and step alone, so that a training
/// that is taken up again reads what it would have read.
void draw(std::span<const std::int32_t> text, std::uint64_t seed, std::uint64_t step, std::size_t n_sequences,
          std::size_t length, Sequences& into);

/// Mean loss of all bytes of a text but the first, nats. Each is predicted once, from at least the half of `length`
/// bytes before it, where there are so many. At most `n_sequences` are computed at once. Adds what each layer with a
/// plan chose, of all that was computed, to `counts`, where there are such.
template <class T>
[[nodiscard]] double evaluate(Pass<T>& pass, std::span<const std::int32_t> text, std::size_t length,
                              std::size_t n_sequences, const moe::ExecutorRef& threads,
                              std::span<moe::RoutingCounts> counts = {});

}  // namespace trainer
