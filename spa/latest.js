/**
 * Of what a view asks for, only the latest answer is shown, and none to somebody who has come after.
 * @module
 */

export class Latest {
  #turn = 0;

  /** Counts what is under way as too late, and says whether what begins now is still the latest. @returns {() => boolean} */
  begin() {
    this.#turn += 1;
    return this.current();
  }

  /** The same without another beginning. @returns {() => boolean} */
  current() {
    const mine = this.#turn;
    return () => mine === this.#turn;
  }
}
