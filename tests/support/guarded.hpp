#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace moe_test {

enum class Side { begin, end };

/// A copy of `values` between two pages that may not be touched, flush with one of them: reading or writing one element
/// too many ends the program. Empty ranges point at a guard page. Linux and other systems with mmap.
template <class T>
class Guarded {
public:
    Guarded(const std::vector<T>& values, Side side) : count_(values.size()) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t bytes = values.size() * sizeof(T);
        const std::size_t inner = (bytes + page - 1) / page * page;
        size_ = inner + 2 * page;
        void* const memory = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            throw std::bad_alloc();
        }
        base_ = static_cast<std::byte*>(memory);
        if (inner > 0 && mprotect(base_ + page, inner, PROT_READ | PROT_WRITE) != 0) {
            throw std::bad_alloc();
        }
        std::byte* const begin = base_ + page + (side == Side::end ? inner - bytes : 0);
        data_ = reinterpret_cast<T*>(begin);
        if (bytes > 0) {
            std::memcpy(begin, values.data(), bytes);
        }
    }
    Guarded(Guarded&& other) noexcept
        : base_(std::exchange(other.base_, nullptr)), size_(other.size_), data_(other.data_), count_(other.count_) {}
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;
    Guarded& operator=(Guarded&&) = delete;
    ~Guarded() {
        if (base_ != nullptr) {
            munmap(base_, size_);
        }
    }

    [[nodiscard]] T* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return count_; }
    [[nodiscard]] bool empty() const { return count_ == 0; }

private:
    std::byte* base_ = nullptr;
    std::size_t size_ = 0;
    T* data_ = nullptr;
    std::size_t count_ = 0;
};

}  // namespace moe_test
